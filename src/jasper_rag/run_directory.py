"""What a run leaves behind: settings, metrics, history, run files, model and report; all of a new run or none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jasper_rag.atomic_files import replacing_entries, require_writable, write_json, write_text
from jasper_rag.atomic_moves import recover
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.explain.report import write_report
from jasper_rag.explain.report_data import ReportData
from jasper_rag.file_locks import exclusive
from jasper_rag.jasper import MODEL_FOLDER, FitRecord, Jasper
from jasper_rag.retrieval.trec import write_run
from jasper_rag.run_report import run_report
from jasper_rag.serving.saved_model import require_replaceable
from jasper_rag.text.split_file import write_splits
from jasper_rag.text.training_questions import three_splits
from jasper_rag.yaml_files import write_yaml

CONFIG, METRICS, REPORT, SPLITS = "config.yaml", "metrics.json", "report.html", "splits.json"


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
    report = run_report(jasper, record, metrics, directory)
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
    report = run_report(jasper, record, metrics, directory)
    with writing(directory), replacing_entries(directory) as folder:
        _write_results(jasper, record, report, folder)
    return metrics


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


def _write_history(record: FitRecord, directory: Path) -> None:
    rows = record.candidates.trained.history
    write_text(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(directory / "training_history.csv", table.getvalue())
