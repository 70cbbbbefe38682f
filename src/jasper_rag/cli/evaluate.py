"""`jasper evaluate`: the comparison table of a finished run, or of its model on another set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError


def evaluate(
    run: options.RunDirectory,
    data: Annotated[
        str | None, typer.Option("--data", help="Another set to evaluate on; the run's own if left out.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split to evaluate on.")] = "test",
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
    if data is None:
        metrics = _own_metrics(run, split)
    else:
        from jasper_rag.atomic_files import write_json
        from jasper_rag.jasper import Jasper
        from jasper_rag.run_directory import METRICS, write_runs
        from jasper_rag.text.readers import read_retrieval_set

        with console.talking(quiet):
            retrieval_set = read_retrieval_set(data)
            comparison = Jasper.load(run, offline=offline).evaluate(retrieval_set, split)
        metrics = comparison.to_metrics()
        if output_dir is not None:
            judged = retrieval_set.qrels[split].items()
            ids = tuple(query_id for query_id, grades in judged if any(grade > 0 for grade in grades.values()))
            write_runs(comparison, ids, [document.id for document in retrieval_set.documents], output_dir)
            write_json(output_dir / METRICS, metrics)
    if as_json:
        console.put_json(metrics)
    else:
        console.put_comparison(metrics)


def _own_metrics(run: Path, split: str) -> dict[str, object]:
    path = run / "metrics.json"
    if not path.is_file():
        raise InputError(
            "this run has no metrics of its own.", path=path, remedy="Name a set: jasper evaluate --run R --data DIR."
        )
    metrics: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    if metrics.get("split") != split:
        raise InputError(
            f"the run measured the split {metrics.get('split')!r}, not {split!r}.",
            path=path,
            field="split",
            remedy="Name the set to evaluate another split of it: --data DIR.",
        )
    return metrics
