"""`jasper add` and `jasper remove`: a corpus that grows and shrinks under a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.cli.columns import Columns, parse_columns
from jasper_rag.errors import InputError


def add(
    run: options.RunDirectory,
    data: Annotated[str, typer.Option("--data", help="New documents, in any form that `jasper fit` reads.")],
    columns: Columns = None,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Put documents into a run's corpus without training again.

    Only the new texts are encoded. Questions that come with them are not used; to learn from them run `jasper fit`.

    Example:  jasper add --run runs/scifact --data new_documents.jsonl
    """
    from jasper_rag.file_locks import exclusive
    from jasper_rag.jasper import Jasper
    from jasper_rag.serving.saved_model import model_folder
    from jasper_rag.text.readers import read_retrieval_set

    with console.talking(quiet):
        documents = read_retrieval_set(data, columns=parse_columns(columns)).documents
        with exclusive(run):
            jasper = Jasper.load(run, offline=offline)
            jasper.add(documents)
            jasper.save(model_folder(run))
        console.say(f"{run}: {len(documents):,} documents more, {len(jasper.model.documents):,} in all", quiet=quiet)


def remove(
    run: options.RunDirectory,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of documents.")] = None,
    ids_file: Annotated[Path | None, typer.Option("--ids", help="A file of ids, one per line.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Take documents out of a run's corpus without training again.

    Example:  jasper remove --run runs/scifact 4983 5836
    """
    from jasper_rag.file_locks import exclusive
    from jasper_rag.jasper import Jasper
    from jasper_rag.serving.saved_model import model_folder
    from jasper_rag.text.readers.utf8 import utf8_lines

    gone = list(ids or ())
    if ids_file is not None:
        gone += [line.rstrip("\r\n") for _, line in utf8_lines(ids_file) if line.strip()]
    if not gone:
        raise InputError("no id was given.", field="ids", remedy="Name ids, or a file of them: --ids gone.txt.")
    with console.talking(quiet):
        with exclusive(run):
            jasper = Jasper.load(run)
            jasper.remove(gone)
            jasper.save(model_folder(run))
        console.say(f"{run}: {len(set(gone)):,} documents less, {len(jasper.model.documents):,} left", quiet=quiet)
