"""What a run leaves behind: settings, metrics, history, run files, model and report, each written whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.atomic_files import write_json, write_text
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.explain.report import write_report
from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.jasper import MODEL_FOLDER, FitRecord, Jasper
from jasper_rag.retrieval.trec import write_run
from jasper_rag.text.records import Document, RetrievalSet
from jasper_rag.text.split_file import write_splits
from jasper_rag.yaml_files import write_yaml

CONFIG, METRICS, REPORT = "config.yaml", "metrics.json", "report.html"
EXAMPLES = 40
EXAMPLE_DEPTH = 10


def write_fit(jasper: Jasper, record: FitRecord, retrieval_set: RetrievalSet, directory: Path) -> None:
    """Write the whole run directory; every file replaces an older one only when it is complete.

    Args:
        jasper: Fitted.
        record: Of its fit.
        retrieval_set: With the splits used, so that they can be given again.
        directory: The run directory; created.
    """
    jasper.save(directory / MODEL_FOLDER)
    write_yaml(directory / CONFIG, jasper.model.config)
    write_splits(retrieval_set, directory / "splits.json", int(jasper.model.config["seed"]))
    _write_history(record, directory)
    if record.comparison is not None:
        write_comparison(record.comparison, jasper, record, directory)


def write_comparison(comparison: Comparison, jasper: Jasper, record: FitRecord, directory: Path) -> dict[str, Any]:
    """Write metrics.json, the TREC run files and the report; returns the metrics."""
    metrics = comparison.to_metrics()
    queries = record.embedded.splits[comparison.split]
    write_runs(comparison, queries.ids, [d.id for d in record.embedded.documents], directory)
    write_json(directory / METRICS, metrics)
    data = ReportData(
        name=f"{comparison.dataset}: does it retrieve better?",
        metrics=metrics,
        history=record.trained.history,
        examples=tuple(_examples(comparison, record)),
        facts=facts(jasper, record),
        next_commands=next_commands(directory),
    )
    write_report(data, directory / REPORT)
    return metrics


def write_runs(comparison: Comparison, query_ids: tuple[str, ...], document_ids: list[str], directory: Path) -> None:
    """One TREC run file per system under `runs/`."""
    for key, run in comparison.runs.items():
        path = directory / "runs" / f"{comparison.split}.{key}.trec"
        write_run(path, list(query_ids), document_ids, run.rows, run.scores, key)


def facts(jasper: Jasper, record: FitRecord) -> dict[str, str]:
    """What was decided and what it rests on, for people."""
    embedded, guard, weights = record.embedded, record.guard, jasper.model.weights
    found: dict[str, str] = {
        "Encoder": f"{jasper.model.identity.name}, {jasper.model.identity.dimension} dimensions",
        "Documents": f"{len(embedded.documents):,}",
        "Questions": ", ".join(f"{len(queries):,} {split}" for split, queries in embedded.splits.items()),
    }
    if record.truncated_share is not None:
        found["Documents longer than the encoder reads"] = f"{record.truncated_share:.1%}"
    gate = "off" if guard.guard.gate is None else f"fully open for {guard.open_share:.0%} of dev questions"
    found |= {
        "Blend of question and prediction": f"a = {guard.guard.alpha:g} (dev p = {guard.p_value:.2g})",
        "Familiarity gate": gate,
        "Weight of BM25 in the fusion": f"{weights.jasper:g} beside JASPER, {weights.plain:g} beside the plain encoder",
        "Training": f"{record.trained.cpu_seconds:.1f} CPU-seconds",
        "Leaks between splits": " ".join(record.leaks.lines()) or "none found",
    }
    return found


def next_commands(directory: Path) -> tuple[str, ...]:
    """What to type after a fit."""
    return (
        f'jasper search --run {directory} "your question"',
        f"jasper evaluate --run {directory} --data DIR --split test",
    )


def _write_history(record: FitRecord, directory: Path) -> None:
    rows = record.trained.history
    write_text(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(directory / "training_history.csv", table.getvalue())


def _examples(comparison: Comparison, record: FitRecord) -> Iterator[Example]:
    """The questions that changed most, gains and losses alike, then an even sample of the rest."""
    before, after = comparison.runs["plain"], comparison.runs["hybrid"]
    queries = record.embedded.splits[comparison.split]
    change = after.values["ndcg@10"] - before.values["ndcg@10"]
    order = np.argsort(-change, kind="stable")
    third = EXAMPLES // 3
    middle = order[third:-third][:: max(1, len(order) // third)] if len(order) > EXAMPLES else order[third:]
    chosen = dict.fromkeys([*order[:third].tolist(), *order[-third:][::-1].tolist(), *middle.tolist()])
    for row in list(chosen)[:EXAMPLES]:
        relevant = set(queries.judgements.positives(row).tolist())
        sides = [
            tuple(
                _hit(record.embedded.documents[document], float(score), document in relevant)
                for score, document in zip(run.scores[row][:EXAMPLE_DEPTH], run.rows[row][:EXAMPLE_DEPTH], strict=True)
                if document >= 0
            )
            for run in (before, after)
        ]
        yield Example(queries.texts[row], sides[0], sides[1])


def _hit(document: Document, score: float, relevant: bool) -> Hit:
    return Hit(document.id, document.title, document.text, score, relevant)
