"""An adapter of questions and documents, and fine-tuning of the encoder, beside JASPER: same vectors, same questions.

    python benchmarks/peers/adapters.py --data-root DATA --output adapters.json
    python benchmarks/peers/adapters.py --data-root DATA --sets scifact --finetune-sets --seeds 0 1

DATA holds BEIR folders; `stdlib` is the running Python's own standard library. Every side learns from the labelled
pairs alone. Search-Adaptor's weights, scale and stopping point are picked by dev nDCG@10 out of a grid (its seconds are
those of the whole grid); fine-tuning gets the wall time that JASPER's training took just before, and ten times as much.
Fine-tuned encoders encode all documents again, which takes minutes on a processor: only `--finetune-sets` are, by
default those of at most 2,000 documents.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetuning import fine_tune
from search_adaptor import GRID, AdaptorRun, ResidualAdapter, tune

from jasper_rag.atomic_files import write_json
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedSet, embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.encoder_choice import usable_encoder
from jasper_rag.evaluation.comparison import KS
from jasper_rag.fitting.model_fitting import openness_over
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import FloatArray, lexicographic_ranks, order_run, per_query
from jasper_rag.metrics.significance import paired_randomisation
from jasper_rag.models.guard import unit
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.training_questions import training_questions
from jasper_rag.training.candidates import train_candidates
from jasper_rag.training.guard_fitting import fit_corpus_gate, fit_guard
from jasper_rag.training.predictor_training import predict
from jasper_rag.training.training_pairs import training_pairs

SETS = ("squadshifts_wiki", "scifact", "stdlib", "tldr", "medquad")
FEW_DOCUMENTS = 2_000

OURS = "jasper"
SYSTEMS = {
    "plain": "question alone (plain encoder)",
    "search_adaptor": "Search-Adaptor, tuned on dev",
    "finetuned": "encoder fine-tuned (MNRL), JASPER's wall time",
    "finetuned_long": "encoder fine-tuned (MNRL), 10 times that",
    "jasper_ungated": "JASPER, ungated",
    OURS: "JASPER (ships)",
}
LONGER = {"finetuned": 1.0, "finetuned_long": 10.0}


@dataclass(frozen=True, slots=True)
class System:
    """What one system reached on test (metric -> value of each question), and the seconds it was trained for."""

    values: Mapping[str, FloatArray]
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every set with every seed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--finetune-sets", nargs="*", help=f"by default those of at most {FEW_DOCUMENTS:,} documents")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        for seed in options.seeds:
            settings, embedded = embedded_set(name, options.data_root, seed)
            few = len(embedded.documents) <= FEW_DOCUMENTS
            wanted = few if options.finetune_sets is None else name in options.finetune_sets
            results.setdefault(name, []).append(measure(embedded, settings, finetuning=wanted))
            if options.output is not None:
                write_json(options.output, results)
        print(table(name, results[name]), flush=True)


def embedded_set(name: str, data_root: Path, seed: int) -> tuple[JasperConfig, EmbeddedSet]:
    """Settings, and vectors and splits as `Jasper.fit` makes them of labelled questions alone."""
    length = MAX_SEQ_LENGTH if name == "stdlib" else None
    overrides = {"seed": seed, "encoder.max_seq_length": length, "pseudo_questions.use": "never"}
    settings = load_config(overrides=overrides)
    retrieval_set = read_python_source() if name == "stdlib" else read_retrieval_set(data_root / name)
    asked = training_questions(retrieval_set, settings.pseudo_questions, seed, language=settings.language)
    encoder = usable_encoder(None, settings, offline=False)
    return settings, embed_set(asked.retrieval_set, encoder, EmbeddingStore(), settings.chunking)


def measure(embedded: EmbeddedSet, settings: JasperConfig, *, finetuning: bool) -> dict[str, Any]:
    """Train every side on `embedded` and compare on test.

    Returns:
        Questions, documents, systems (key -> metrics, seconds, p of ours against it), every point of the adapter's
        grid with its dev curve, and the fine-tunings' steps.
    """
    test = embedded.splits["test"]
    systems = {"plain": System(score(embedded, test.vectors, test.judgements)), **ours(embedded, settings)}
    systems["search_adaptor"], grid = adapted(embedded, settings.seed)
    steps = {}
    if finetuning:
        for key, times in LONGER.items():
            systems[key], steps[key] = fine_tuned(embedded, settings, times * systems[OURS].wall_seconds)
    return {
        "seed": settings.seed,
        "questions": len(test),
        "documents": len(embedded.documents),
        "train_questions": len(embedded.splits["train"]),
        "threads": torch.get_num_threads(),
        "systems": {key: figures(key, systems, settings.seed) for key in SYSTEMS if key in systems},
        "grid": grid,
        "finetuning_steps": steps,
    }


def ours(embedded: EmbeddedSet, settings: JasperConfig) -> dict[str, System]:
    """JASPER as a fit trains and guards it; the seconds are those of the training."""
    wall = time.perf_counter()
    candidates = train_candidates(embedded, settings.training, settings.seed)
    seconds = candidates.cpu_seconds, time.perf_counter() - wall
    model, dev, test = candidates.trained.model, candidates.dev, embedded.splits["test"]
    asked, seed = candidates.questions, settings.seed
    moved, labelled = predict(model, dev.vectors), candidates.labelled
    guard = fit_guard(asked.vectors, dev, moved, embedded.vectors, settings.guard, seed, labelled=labelled).guard
    openness = openness_over(fit_corpus_gate(embedded, asked, settings.guard, seed), embedded.vectors)
    predictions = predict(model, test.vectors)
    vectors = {
        "jasper_ungated": guard.blend(test.vectors, predictions, gated=False),
        OURS: guard.over(openness).blend(test.vectors, predictions),
    }
    return {key: System(score(embedded, asked, test.judgements), *seconds) for key, asked in vectors.items()}


def adapted(embedded: EmbeddedSet, seed: int, runs: Sequence[AdaptorRun] = GRID) -> tuple[System, list[dict[str, Any]]]:
    """The adapter that dev picks, with the seconds of the whole grid, and what each point of it gave."""

    def values(adapter: ResidualAdapter, split: str) -> Mapping[str, FloatArray]:
        queries = embedded.splits[split]
        documents = DocumentVectors(mapped(adapter, embedded.vectors.vectors))
        return score(embedded, mapped(adapter, queries.vectors), queries.judgements, documents)

    if embedded.vectors.passages is not None:
        raise ValueError(f"{embedded.name} is searched by passages; the adapter moves whole documents.")
    best, trained = tune(training_pairs(embedded), lambda adapter: ndcg(values(adapter, "dev")), seed, runs)
    system = System(
        values(best.adapter, "test"), sum(one.cpu_seconds for one in trained), sum(one.wall_seconds for one in trained)
    )
    described = [
        {
            **asdict(one.run),
            "chosen": one is best,
            "cpu_seconds": one.cpu_seconds,
            "dev_ndcg@10": one.curve,
            "test_ndcg@10": ndcg(values(one.adapter, "test")),
        }
        for one in trained
    ]
    return system, described


def mapped(adapter: ResidualAdapter, vectors: Vectors) -> Vectors:
    """Adapted vectors [n, D], unit rows."""
    with torch.inference_mode():
        return unit(adapter(torch.from_numpy(np.array(vectors, dtype=np.float32))).numpy())


def fine_tuned(embedded: EmbeddedSet, settings: JasperConfig, seconds: float) -> tuple[System, int]:
    """A fresh encoder trained for so long, then documents and test questions encoded by it; and its steps."""
    encoder = usable_encoder(None, settings, offline=False)
    if not isinstance(encoder, SentenceEncoder):
        raise ValueError(f"only a sentence-transformers model can be fine-tuned, not {type(encoder).__name__}.")
    training = fine_tune(encoder.model, text_pairs(embedded, encoder), seconds, settings.seed)
    documents = DocumentVectors(encoder.encode([document.content for document in embedded.documents], "document"))
    test = embedded.splits["test"]
    found = score(embedded, encoder.encode(test.texts, "query"), test.judgements, documents)
    took = f"{training.steps} steps of fine-tuning in {training.wall_seconds:.1f} s"
    print(f"{embedded.name}: {took}, nDCG@10 {ndcg(found):.4f}", file=sys.stderr, flush=True)
    return System(found, training.cpu_seconds, training.wall_seconds), training.steps


def text_pairs(embedded: EmbeddedSet, encoder: SentenceEncoder) -> list[tuple[str, str]]:
    """Each train question with each of its documents, as the encoder reads them."""
    train = embedded.splits["train"]
    asked, given = encoder.prompt("query"), encoder.prompt("document")
    return [
        (asked + text, given + embedded.documents[document].content)
        for row, text in enumerate(train.texts)
        for document in train.judgements.positives(row)
    ]


def score(
    embedded: EmbeddedSet, questions: Vectors, judgements: Judgements, documents: DocumentVectors | None = None
) -> dict[str, FloatArray]:
    """Metric -> value of each question, asked by its vector [Q, D] among `documents` (the plain ones if None)."""
    # Deeper than any cut-off, so that equal scores at the edge are ordered by id as everywhere.
    scores, rows = (documents or embedded.vectors).top_k(questions, 100)
    ranks = lexicographic_ranks([document.id for document in embedded.documents])
    return per_query(np.asarray(order_run(scores, rows, ranks)), judgements, KS)


def ndcg(values: Mapping[str, FloatArray]) -> float:
    """Mean nDCG@10."""
    return float(values["ndcg@10"].mean())


def figures(key: str, systems: Mapping[str, System], seed: int) -> dict[str, float | None]:
    """Means of one system, its seconds, what a second brought, and p of ours against it."""
    system, found = systems[key], ndcg(systems[key].values)
    seconds = system.cpu_seconds
    p_value = paired_randomisation(systems[OURS].values["ndcg@10"], system.values["ndcg@10"], seed)
    return {
        **{metric: float(each.mean()) for metric, each in system.values.items()},
        "train_cpu_seconds": seconds,
        "train_wall_seconds": system.wall_seconds,
        "ndcg_per_second": found / seconds if seconds else None,
        "gain_per_second": (found - ndcg(systems["plain"].values)) / seconds if seconds else None,
        "p_value": None if key == OURS else p_value,
    }


def table(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """One set as Markdown: means over the seeds, a p-value for each."""
    first = results[0]
    lines = [
        f"\n### {name}, two-sided adapter and fine-tuning: {first['train_questions']:,} train and "
        f"{first['questions']:,} test questions, {first['documents']:,} documents, {len(results)} "
        f"{'seed' if len(results) == 1 else 'seeds'}\n",
        "| system | nDCG@10 | R@10 | MRR@10 | train CPU-s | train wall s | nDCG@10 per CPU-s | gain per 100 CPU-s | "
        "p, JASPER against it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in first["systems"]:
        rows = [one["systems"][key] for one in results]
        cells = [_mean(rows, metric, ".3f") for metric in ("ndcg@10", "recall@10", "mrr@10")]
        if key == "plain":
            cells += [""] * 4
        else:
            cells += [_mean(rows, metric, ".1f") for metric in ("train_cpu_seconds", "train_wall_seconds")]
            cells += [_mean(rows, "ndcg_per_second", ".4f"), _mean(rows, "gain_per_second", ".3f", 100)]
        chances = ["" if row["p_value"] is None else f"{row['p_value']:.2g}" for row in rows]
        lines.append(f"| {' | '.join([SYSTEMS[key], *cells, ', '.join(chances)])} |")
    return "\n".join([*lines, f"\n{_described(results)}"])


def _mean(rows: Sequence[Mapping[str, float | None]], metric: str, form: str, times: float = 1) -> str:
    values = [value for row in rows if (value := row[metric]) is not None]
    return format(times * float(np.mean(values)), form) if values else ""


def _described(results: Sequence[Mapping[str, Any]]) -> str:
    """The adapter that dev picked and the steps of the fine-tunings, seed by seed."""
    notes = []
    for one in results:
        chosen = next(run for run in one["grid"] if run["chosen"])
        notes.append(
            f"Search-Adaptor: recovery {chosen['recovery']:g}, prediction {chosen['prediction']:g}, scale "
            f"{chosen['scale']:g}, {chosen['cpu_seconds']:.1f} CPU-s of its own"
        )
        steps = one["finetuning_steps"]
        if steps:
            notes[-1] += f"; fine-tuning: {steps['finetuned']} and {steps['finetuned_long']} steps"
    return ". ".join(notes) + "."


if __name__ == "__main__":
    main()
