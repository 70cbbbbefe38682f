"""`jasper evaluate`: the comparison table of a finished run, or of its model on another set."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, options
from jasper_rag.cli.columns import Columns, parse_columns
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.text.records import RetrievalSet

NEEDED = {"dataset": str, "questions": int, "split": str, "systems": dict, "verdict": str}
"""Keys of metrics.json that the table shows, and what they hold."""


def evaluate(
    run: options.RunDirectory,
    data: Annotated[
        str | None, typer.Option("--data", help="Another set to evaluate on; the run's own if left out.")
    ] = None,
    columns: Columns = None,
    split: Annotated[str, typer.Option("--split", help="Split to evaluate on: train, dev, test.")] = "test",
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Write metrics.json and run files here.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Compare the trained search with the plain encoder and BM25.

    Without --data it prints what `jasper fit` measured. With --data it searches that set's own documents, which shows
    whether the model does harm on questions it was not trained for.
    """
    if data is not None:
        if output_dir is not None:
            from jasper_rag.atomic_files import require_writable

            require_writable(output_dir)
        with console.talking(quiet):
            metrics = _metrics_on(data, parse_columns(columns), split, run, output_dir, offline=offline)
    elif output_dir is None:
        metrics = _own_metrics(run, split)
    else:
        remedy = "The run's own results are in the run directory already; name a set: --data DIR."
        raise InputError("--output-dir without --data.", field="output-dir", remedy=remedy)
    if as_json:
        console.put_json(metrics)
    else:
        console.put_comparison(metrics)


def _metrics_on(
    data: str, columns: dict[str, str], split: str, run: Path, output_dir: Path | None, *, offline: bool
) -> dict[str, Any]:
    from jasper_rag.atomic_files import write_json
    from jasper_rag.jasper import Jasper
    from jasper_rag.run_directory import METRICS, write_runs
    from jasper_rag.text.readers import read_retrieval_set

    jasper = Jasper.load(run, offline=offline)
    retrieval_set = _with_split(read_retrieval_set(data, columns=columns), split, run)
    comparison = jasper.evaluate(retrieval_set, split)
    metrics = comparison.to_metrics()
    if output_dir is not None:
        judged = retrieval_set.qrels[split].items()
        ids = tuple(query_id for query_id, grades in judged if any(grade > 0 for grade in grades.values()))
        write_runs(comparison, ids, [document.id for document in retrieval_set.documents], output_dir)
        write_json(output_dir / METRICS, metrics)
    return metrics


def _with_split(retrieval_set: RetrievalSet, split: str, run: Path) -> RetrievalSet:
    """A set without this split may be the very one that the run divided: then the run's splits are used."""
    from jasper_rag.run_directory import SPLITS
    from jasper_rag.text.split_file import SplitMismatch, read_splits

    if split not in retrieval_set.qrels and (run / SPLITS).is_file():
        with suppress(SplitMismatch):  # another set: evaluation says which splits there are
            return read_splits(retrieval_set, run / SPLITS)
    return retrieval_set


def _own_metrics(run: Path, split: str) -> dict[str, Any]:
    from jasper_rag.atomic_moves import recover

    recover(run)  # what a killed fit left half moved
    path = run / "metrics.json"
    if not path.is_file():
        kind = "this run has no metrics of its own" if run.is_dir() else "there is no such run"
        remedy = "Give the folder that `jasper fit --output-dir` wrote, or name a set: --data DIR."
        raise InputError(f"{kind}.", path=path, remedy=remedy)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error}).", path=path, remedy="Run `jasper fit` again.") from error
    missing = sorted(NEEDED.keys() - metrics.keys()) if isinstance(metrics, dict) else sorted(NEEDED)
    if missing:
        raise InputError(f"lacks {', '.join(missing)}.", path=path, remedy="Run `jasper fit` again.")
    if metrics.get("split") != split:
        raise InputError(
            f"the run measured the split {metrics.get('split')!r}, not {split!r}.",
            path=path,
            field="split",
            remedy="Name the set to evaluate another split of it: --data DIR.",
        )
    if not all(isinstance(metrics[key], kind) for key, kind in NEEDED.items()):
        raise InputError("holds something else than figures.", path=path, remedy="Run `jasper fit` again.")
    return dict(metrics)
