"""What a run leaves behind: settings, metrics, history, run files, model and report; all of a new run or none."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.atomic_files import replacing_entries, require_writable, write_json, write_text
from jasper_rag.atomic_moves import recover
from jasper_rag.encoder_choice import GIVEN_VECTORS
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.explain.report import write_report
from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.file_locks import exclusive
from jasper_rag.jasper import MODEL_FOLDER, FitRecord, Jasper
from jasper_rag.retrieval.trec import write_run
from jasper_rag.saved_model import require_replaceable
from jasper_rag.text.leakage import LeakReport
from jasper_rag.text.records import Document
from jasper_rag.text.split_file import write_splits
from jasper_rag.text.training_questions import three_splits
from jasper_rag.yaml_files import write_yaml

CONFIG, METRICS, REPORT, SPLITS = "config.yaml", "metrics.json", "report.html", "splits.json"
EXAMPLES = 40
EXAMPLE_DEPTH = 10


def write_fit(jasper: Jasper, record: FitRecord, directory: Path) -> dict[str, Any]:
    """Write the whole run directory; an older run there stays as it is until all of the new one is on disk.

    Args:
        jasper: Fitted.
        record: Of its fit.
        directory: The run directory; created. Files of other names in it stay.

    Returns:
        The content of metrics.json: its intervals and tests resample thousands of times, so no caller should ask again.

    Raises:
        InputError: As `writing` does.
    """
    require_usable(directory)
    metrics = record.to_metrics()
    report = _report(jasper, record, metrics, directory)
    with writing(directory), replacing_entries(directory) as folder:
        write_yaml(folder / CONFIG, jasper.model.config)
        _write_history(record, folder)
        _write_results(jasper, record, report, folder)
    return metrics


def write_trained(jasper: Jasper, record: FitRecord, directory: Path, measured: Mapping[str, Any]) -> dict[str, Any]:
    """`write_fit` for a run that has written its settings and history itself: these stay.

    Args:
        jasper: Trained.
        record: Of its training.
        directory: The run directory.
        measured: Figures of the training, kept in metrics.json too.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: As `writing` does.
    """
    metrics = {**record.to_metrics(), **measured}
    report = _report(jasper, record, metrics, directory)
    with writing(directory), replacing_entries(directory) as folder:
        _write_results(jasper, record, report, folder)
    return metrics


def _report(jasper: Jasper, record: FitRecord, metrics: Mapping[str, Any], directory: Path) -> ReportData:
    comparison = record.comparison
    return ReportData(
        name=f"{comparison.dataset}: does it retrieve better?",
        metrics=metrics,
        history=record.candidates.trained.history,
        examples=tuple(_examples(comparison, record)),
        facts=facts(jasper, record),
        next_commands=next_commands(directory, jasper.model.identity.name),
    )


def _write_results(jasper: Jasper, record: FitRecord, report: ReportData, folder: Path) -> None:
    comparison = record.comparison
    queries = record.embedded.splits[comparison.split]
    jasper.save(folder / MODEL_FOLDER)
    write_splits(three_splits(record.questions.retrieval_set), folder / SPLITS, int(jasper.model.config["seed"]))
    write_runs(comparison, queries.ids, [d.id for d in record.embedded.documents], folder)
    write_json(folder / METRICS, dict(report.metrics))
    write_report(report, folder / REPORT)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Hold a run directory from before the work to its end, so that no second process spends its work in vain.

    What an earlier process left half moved there when it was killed is completed first.

    Args:
        directory: Created; removed again if nothing was written. May be held again within the block.

    Raises:
        InputError: As `require_usable` does; or another process is writing there.
    """
    require_usable(directory)
    with exclusive(directory):
        recover(directory, to_write=True)
        yield


def require_usable(directory: Path) -> None:
    """Refuse a run directory that could not be written in the end, before any work is done.

    Raises:
        InputError: It is or lies below a file, cannot be written to, or its `model` is something else than a model.
    """
    require_writable(directory)
    require_replaceable(directory / MODEL_FOLDER)


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
        "Trained on": _trained_on(record),
    }
    passages = embedded.vectors.passages
    if passages is not None:
        found["Passages"] = f"{len(passages.spans):,}; a document scores as its best one"
    if record.truncated_share is not None:
        found["Documents longer than the encoder reads"] = f"{record.truncated_share:.1%}"
    gate = "off" if guard.guard.gate is None else f"fully open for {guard.open_share:.0%} of dev questions"
    found |= {
        "Blend of question and prediction": f"a = {guard.guard.alpha:g} (dev p = {guard.p_value:.2g})",
        "Familiarity gate": gate,
        "Weight of BM25 in the fusion": (
            f"{weights.jasper:g} beside JASPER, {weights.plain:g} beside the plain encoder"
            if jasper.model.lexical is not None
            else "none: the documents have no text"
        ),
        "Topics": record.topics.summary(),
        "Training": f"{record.candidates.cpu_seconds:.1f} CPU-seconds",
        "Leaks between splits": _leaks(record.leaks),
    }
    return found


def _trained_on(record: FitRecord) -> str:
    dev = record.candidates.dev_ndcg
    chosen = record.questions.kind if len(dev) == 1 else record.candidates.chosen
    tried = ", ".join(f"{name} {value:.3f}" for name, value in dev.items())
    return f"{chosen} questions" + (f" (dev nDCG@10: {tried})" if len(dev) > 1 else "")


def _leaks(report: LeakReport) -> str:
    kinds = {
        "questions in several splits": report.equal_queries.count,
        "sources shared by splits": report.shared_sources.count,
        "questions quoted in their own answers": report.verbatim_queries.count,
    }
    return "; ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) or "none found"


def next_commands(directory: Path, encoder: str = "") -> tuple[str, ...]:
    """What to type after a fit; `encoder` is the name of the vectors' identity."""
    run = shlex.quote(str(directory))
    if encoder == GIVEN_VECTORS:
        return (
            f"jasper export --run {run} --to DIR",
            f'jasper search --run {run} --encoder YOURS "your question"',
        )
    return (
        f'jasper search --run {run} "your question"',
        f"jasper evaluate --run {run} --data DIR --split test",
    )


def _write_history(record: FitRecord, directory: Path) -> None:
    rows = record.candidates.trained.history
    write_text(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(directory / "training_history.csv", table.getvalue())


def _examples(comparison: Comparison, record: FitRecord) -> Iterator[Example]:
    """The questions that changed most, gains and losses alike, then an even sample of the rest."""
    before, after = comparison.runs["plain"], comparison.runs[comparison.default]
    change = after.values["ndcg@10"] - before.values["ndcg@10"]
    order = np.argsort(-change, kind="stable")
    third = EXAMPLES // 3
    middle = order[third:-third][:: max(1, len(order) // third)] if len(order) > EXAMPLES else order[third:]
    chosen = dict.fromkeys([*order[:third].tolist(), *order[-third:][::-1].tolist(), *middle.tolist()])
    yield from (example(comparison, record, row) for row in list(chosen)[:EXAMPLES])


def example(comparison: Comparison, record: FitRecord, row: int) -> Example:
    """One question of the compared split, ranked by the plain encoder and by the default search."""
    queries = record.embedded.splits[comparison.split]
    relevant = set(queries.judgements.positives(row).tolist())
    before, after = (
        tuple(
            _hit(record.embedded.documents[document], float(score), document in relevant)
            for score, document in zip(run.scores[row][:EXAMPLE_DEPTH], run.rows[row][:EXAMPLE_DEPTH], strict=True)
            if document >= 0
        )
        for run in (comparison.runs["plain"], comparison.runs[comparison.default])
    )
    return Example(queries.texts[row], before, after)


def _hit(document: Document, score: float, relevant: bool) -> Hit:
    return Hit(document.id, document.title, document.text, score, relevant)
