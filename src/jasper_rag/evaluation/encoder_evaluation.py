"""Is a trained encoder better than the base it started from? Figures, paired tests, geometry, and a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag.atomic_files import replacing
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.evaluation.encoder_systems import (
    ENCODER_SYSTEMS,
    EncoderRun,
    VectorPair,
    embedded,
    encoder_runs,
    geometry_of,
)
from jasper_rag.evaluation.encoder_task import EncoderTask
from jasper_rag.evaluation.verdict import SIGNIFICANT
from jasper_rag.metrics.significance import bootstrap_interval, paired_randomisation
from jasper_rag.retrieval.trec import write_run

MAIN_METRIC = "NDCG@10"
PER_QUERY_ENDINGS = (".jsonl", ".trec", ".run")
"""Endings of a file of results by query: JSON lines, or a TREC run."""

_LISTED = 10
"""Documents that a line of JSON lists."""


@dataclass(frozen=True, slots=True)
class EncoderEvaluation:
    """Every system on one task.

    Args:
        task: What was asked.
        runs: System key -> its run.
        geometry: Of "model" and "base".
        seed: Of intervals and tests.
    """

    task: EncoderTask
    runs: Mapping[str, EncoderRun]
    geometry: Mapping[str, Mapping[str, float]]
    seed: int = 0

    def means(self, system: str) -> dict[str, float]:
        """Metric -> mean over the queries."""
        return {metric: float(values.mean()) for metric, values in self.runs[system].values.items()}

    def significance(self, baseline: str) -> dict[str, Any]:
        """The model's nDCG@10 against a baseline's: difference, 95 % interval, paired randomisation test."""
        ours = self.runs["model"].values[MAIN_METRIC]
        theirs = self.runs[baseline].values[MAIN_METRIC]
        low, high = bootstrap_interval(ours - theirs, self.seed)
        return {
            "metric": MAIN_METRIC,
            "difference": float((ours - theirs).mean()),
            "difference_low": low,
            "difference_high": high,
            "p_value": paired_randomisation(ours, theirs, self.seed),
            "queries_better": int((ours > theirs).sum()),
            "queries_worse": int((ours < theirs).sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values: "metrics" of the model, "baselines", "significance" by baseline, "geometry", "verdict"."""
        baselines = [name for name in self.runs if name != "model"]
        return {
            "metrics": self.means("model"),
            "baselines": {name: self.means(name) for name in baselines},
            "significance": {name: self.significance(name) for name in baselines},
            "geometry": {name: dict(figures) for name, figures in self.geometry.items()},
            "task": self.task.name,
            "queries": len(self.task.queries),
            "documents": len(self.task.documents),
            "verdict": self.verdict(),
        }

    def verdict(self) -> str:
        """One or two sentences: the model against its base, and BM25 where it is better than both."""
        ours, base = self.means("model")[MAIN_METRIC], self.means("base")[MAIN_METRIC]
        tested = self.significance("base")
        queries = len(self.task.queries)
        where = f"{MAIN_METRIC} over {queries:,} {'query' if queries == 1 else 'queries'}"
        if not tested["queries_better"] and not tested["queries_worse"]:
            said = f"This model retrieves as its base does ({base:.3f} {where})."
        elif tested["p_value"] >= SIGNIFICANT:
            chance = f"may be chance (p = {tested['p_value']:.2g})"
            said = f"This model moves retrieval from {base:.3f} to {ours:.3f} {where}, a difference that {chance}."
        else:
            direction = "better" if ours > base else "WORSE"
            change = f"from {base:.3f} to {ours:.3f} {where} (p = {tested['p_value']:.2g})"
            said = f"This model retrieves {direction} than its base: {change}."
        lexical = self.means("bm25")[MAIN_METRIC]
        if lexical > max(ours, base):
            said += f" BM25 alone is better than both ({lexical:.3f})."
        return said

    def write_per_query(self, path: str | Path) -> None:
        """Write results query by query: JSON lines (.jsonl), or the model's ranking as a TREC run (.trec, .run).

        A line of JSON has the query, the model's metrics, each system's nDCG@10, and the first documents with their
        distances.

        Raises:
            InputError: The file has another ending.
        """
        path = require_per_query(path)
        run, ids = self.runs["model"], self.task.document_ids
        if path.suffix.lower() != ".jsonl":
            write_run(path, self.task.query_ids, ids, run.rows, run.scores, "gaussian")
            return
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
            for query in range(len(self.task.queries)):
                stream.write(json.dumps(self._line(query), ensure_ascii=False, allow_nan=False) + "\n")

    def _line(self, query: int) -> dict[str, Any]:
        run, judgements = self.runs["model"], self.task.judgements
        relevant = set(judgements.positives(query).tolist())
        found = zip(run.rows[query, :_LISTED].tolist(), run.scores[query, :_LISTED].tolist(), strict=True)
        return {
            "query_id": self.task.query_ids[query],
            "query": self.task.queries[query],
            "metrics": {metric: float(values[query]) for metric, values in run.values.items()},
            MAIN_METRIC: {name: float(each.values[MAIN_METRIC][query]) for name, each in self.runs.items()},
            "relevant": [self.task.document_ids[row] for row in sorted(relevant)],
            "retrieved": [
                {"id": self.task.document_ids[row], "distance": -score, "relevant": row in relevant}
                for row, score in found
                if row >= 0
            ],
        }


def require_per_query(path: str | Path) -> Path:
    """Refuse a file for results by query whose ending names no format.

    Raises:
        InputError: It does not.
    """
    path = Path(path)
    if path.suffix.lower() not in PER_QUERY_ENDINGS:
        remedy = "Name it .jsonl for JSON lines, .trec or .run for a TREC run."
        raise InputError(f"ends in {path.suffix!r}, which names no format.", path=path, remedy=remedy)
    return path


def evaluate_encoder(
    model: GaussianEmbeddingGemma,
    task: EncoderTask,
    *,
    batch_size: int = 32,
    top_k: int = 100,
    language: str = "english",
    store: EmbeddingStore | None = None,
    seed: int = 0,
) -> EncoderEvaluation:
    """Rank all documents for every query with the model and with each of `ENCODER_SYSTEMS`.

    Every figure is over at least 100 documents per query (or all there are), so that Recall@100 and MAP@100 are what
    their names say.

    Args:
        model: A trained encoder.
        task: What to ask.
        batch_size: Texts per forward pass.
        top_k: Documents ranked per query, as far as MRR looks.
        language: Of BM25's stemmer.
        store: Keeps the vectors of a base that never moved; None: nothing is kept.
        seed: Of intervals and tests.

    Raises:
        InputError: A setting is out of range, or a text gives an unusable vector.
    """
    for field, value in (("batch_size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise InputError(f"{value} is no usable number.", field=field, remedy="Give a whole number of 1 or more.")
    vectors, base = embedded(model.eval(), task, batch_size, store)
    runs = encoder_runs(vectors, base, task, top_k, language)
    return _measured(vectors, base, task, runs, seed)


def _measured(
    model: VectorPair, base: VectorPair, task: EncoderTask, runs: Mapping[str, EncoderRun], seed: int
) -> EncoderEvaluation:
    spaces = {"model": model, "base": base}
    shapes = {name: geometry_of(pair, task, runs[name], seed) for name, pair in spaces.items()}
    return EncoderEvaluation(task, {name: runs[name] for name in ENCODER_SYSTEMS}, shapes, seed)
