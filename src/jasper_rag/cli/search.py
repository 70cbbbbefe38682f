"""`jasper search`: one question and its best documents, or a file of questions and a run file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.jasper import Jasper, Ranker


def search(
    run: options.RunDirectory,
    question: Annotated[str | None, typer.Argument(help="The question, in quotes.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="Many questions: .jsonl with _id and text, or .txt, one per line.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="TREC run file to write, with --input.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Documents to return.")] = 10,
    dense_only: Annotated[bool, typer.Option("--dense-only", help="Without BM25.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="The plain encoder alone: what you had before.")] = False,
    steer: Annotated[
        list[str] | None,
        typer.Option(
            "--steer",
            help="Where to look: topic:NAME, #NUMBER, keywords:ONE, TWO, document:ID, text:WORDS, or text:about X, "
            "not Y. Given several times, their mean.",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="Of --steer: 0 (none) to 4; 1 is what was trained.")
    ] = 1.0,
    topics: Annotated[
        bool, typer.Option("--topics", help="Show the topics the answer is likely in; without a question, all topics.")
    ] = False,
    encoder: options.EncoderName = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Find the documents that answer a question.

    With --input every question of a file is searched, in batches, into a run file; at the end it says how many of
    them lie outside what was trained for. With --steer the search follows a topic, as --topics offers them, keywords, a
    document, or words of your own, whatever the guard thinks of the question.

    Example:  jasper search --run runs/scifact -k 5 "does vitamin D prevent fractures?"

    Example:  jasper search --run runs/scifact --input questions.jsonl --output run.trec -k 100

    Example:  jasper search --run runs/scifact --topics --steer "text:bone density" "does vitamin D prevent fractures?"

    Example:  jasper search --run runs/scifact --steer "text:about bones, not teeth" --strength 0.5 "calcium"
    """
    from jasper_rag.jasper import Jasper

    steer = steer or None  # given not at all, the parser makes it an empty list
    _require_consistent(dense_only=dense_only, plain=plain, steer=steer)
    if topics and question is None and input_file is None and output is None:
        _list_topics(run, as_json=as_json, quiet=quiet, offline=offline)
        return
    if (question is None) == (input_file is None) or (input_file is None) != (output is None):
        remedy = "Give one question, or a file of them: --input questions.jsonl --output run.trec."
        raise InputError("one question, or --input with --output, is expected.", field="question", remedy=remedy)
    ranker: Ranker = "plain" if plain else "dense" if dense_only else "hybrid"
    with console.talking(quiet):
        jasper = Jasper.load(run, encoder=encoder, offline=offline)
        if input_file is not None and output is not None:
            _require_file_place(output)
            if topics:
                raise InputError("--topics is for one question.", field="topics", remedy="Leave it out with --input.")
            _search_file(jasper, input_file, output, k, ranker, steer, strength, quiet=quiet)
            return
        assert question is not None
        offered = jasper.offered_topics(question) if topics else []
        hits = jasper.search(question, k, ranker, steer=steer, strength=strength)
    if as_json:
        found = {"question": question, "ranker": ranker, "hits": console.hits_as_json(hits)}
        shown = {"topics": console.topics_as_json(offered)} if topics else {}
        console.put_json(found | _steered(steer, strength) | shown)
        return
    if topics:
        console.put_topics(offered)
    console.put_hits(hits)


def _list_topics(run: Path, *, as_json: bool, quiet: bool, offline: bool) -> None:
    from jasper_rag.jasper import Jasper

    with console.talking(quiet):
        listed = Jasper.load(run, offline=offline).topics
    console.put_topics([(topic, None) for topic in listed], as_json=as_json)


def _require_consistent(*, dense_only: bool, plain: bool, steer: Sequence[str] | None) -> None:
    if dense_only and plain:
        raise InputError("--dense-only and --plain exclude each other.", remedy="Give one of them, or none.")
    if plain and steer is not None:
        remedy = "Give one of them: the plain encoder knows no topics."
        raise InputError("--plain and --steer exclude each other.", field="steer", remedy=remedy)


def _steered(steer: Sequence[str] | None, strength: float) -> dict[str, Any]:
    """What the JSON says of steering: one place as a string, several as a list, the strength where it is not 1."""
    if steer is None:
        return {}
    place = steer[0] if len(steer) == 1 else list(steer)
    return {"steer": place} | ({"strength": strength} if strength != 1.0 else {})


def _require_file_place(output: Path) -> None:
    from jasper_rag.atomic_files import require_writable

    if output.is_dir():
        raise InputError("is a folder, not a file.", path=output, remedy="Name the run file to write.")
    require_writable(output.absolute().parent)


def _search_file(
    jasper: Jasper,
    questions: Path,
    output: Path,
    k: int,
    ranker: Ranker,
    steer: Sequence[str] | None,
    strength: float,
    *,
    quiet: bool,
) -> None:
    from jasper_rag.batch_search import search_file

    done = search_file(jasper, questions, output, k, ranker, steer=steer, strength=strength)
    console.say(f"{output}: {done.questions:,} questions, up to {k} documents each", quiet=quiet)
    if done.monitor is not None:
        console.say(done.monitor.line(), quiet=quiet)
