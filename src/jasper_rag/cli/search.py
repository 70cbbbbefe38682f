"""`jasper search`: one question, its best documents."""

from __future__ import annotations

from typing import Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError


def search(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    run: options.RunDirectory,
    k: Annotated[int, typer.Option("-k", min=1, help="Documents to return.")] = 10,
    dense_only: Annotated[bool, typer.Option("--dense-only", help="Without BM25.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="The plain encoder alone: what you had before.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Find the documents that answer a question.

    Example:  jasper search --run runs/scifact -k 5 "does vitamin D prevent fractures?"
    """
    from jasper_rag.jasper import Jasper, Ranker

    if dense_only and plain:
        raise InputError("--dense-only and --plain exclude each other.", remedy="Give one of them, or none.")
    ranker: Ranker = "plain" if plain else "dense" if dense_only else "hybrid"
    with console.talking(quiet):
        hits = Jasper.load(run, offline=offline).search(question, k, ranker)
    if as_json:
        console.put_json({"question": question, "ranker": ranker, "hits": console.hits_as_json(hits)})
    else:
        console.put_hits(hits)
