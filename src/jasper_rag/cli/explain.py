"""`jasper explain`: why a search returns what it returns, for one question or a file of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.jasper import Jasper, Ranker

_PICTURES = (".png", ".svg", ".pdf", ".jpg")


def explain(
    run: options.RunDirectory,
    question: Annotated[str | None, typer.Argument(help="The question, in quotes.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="Many questions: .jsonl with _id and text, or .txt, one per line.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="JSONL file to write, one explanation per line, with --input.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Documents to explain.")] = 5,
    dense_only: Annotated[bool, typer.Option("--dense-only", help="Without BM25.")] = False,
    steer: Annotated[
        list[str] | None, typer.Option("--steer", help="Where to look, as `jasper search --steer`; may be repeated.")
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="Of --steer: 0 (none) to 4; 1 is what was trained.")
    ] = 1.0,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Picture to write too: .png, .svg, .pdf, .jpg.")
    ] = None,
    encoder: options.EncoderName = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Say why a search returns what it returns.

    Which topics the question is about and how surely; each score as a sum of what the question, its topics, training,
    steering and words gave to it; what would be found without the likeliest topic; known questions like it and their
    answers; and what to do about all that.

    Example:  jasper explain --run runs/scifact "does vitamin D prevent fractures?"

    Example:  jasper explain --run runs/scifact --steer "text:bone density" --figure why.png "vitamin D"

    Example:  jasper explain --run runs/scifact --input questions.jsonl --output explanations.jsonl
    """
    from jasper_rag.jasper import Jasper

    steer = steer or None  # given not at all, the parser makes it an empty list
    if (question is None) == (input_file is None) or (input_file is None) != (output is None):
        remedy = "Give one question, or a file of them: --input questions.jsonl --output explanations.jsonl."
        raise InputError("one question, or --input with --output, is expected.", field="question", remedy=remedy)
    _require_pictured(figure, alone=question is not None)
    ranker: Ranker = "dense" if dense_only else "hybrid"
    with console.talking(quiet):
        jasper = Jasper.load(run, encoder=encoder, offline=offline)
        if input_file is not None and output is not None:
            _explain_file(jasper, input_file, output, k, ranker, steer, strength, quiet=quiet)
            return
        assert question is not None
        if figure is not None and not jasper.topics:
            raise InputError("there are no topics to draw.", field="figure", remedy="Leave --figure out.")
        found = jasper.explain(question, k, ranker, steer=steer, strength=strength)
        if figure is not None:
            _draw(found.to_dict(), question, figure, quiet=quiet)
    if as_json:
        console.put_json(found.to_dict())
        return
    from jasper_rag.cli.explanation_view import put_explanation

    put_explanation(found)


def _require_pictured(figure: Path | None, *, alone: bool) -> None:
    if figure is None:
        return
    if not alone:
        raise InputError("--figure is for one question.", field="figure", remedy="Leave it out with --input.")
    if figure.suffix.lower() not in _PICTURES:
        remedy = f"Let its name end in one of {', '.join(_PICTURES)}."
        raise InputError("cannot be told what kind of picture to write.", path=figure, field="figure", remedy=remedy)
    _require_file_place(figure)


def _require_file_place(path: Path) -> None:
    from jasper_rag.atomic_files import require_writable

    if path.is_dir():
        raise InputError("is a folder, not a file.", path=path, remedy="Name the file to write.")
    require_writable(path.absolute().parent)


def _draw(explanation: dict[str, object], question: str, path: Path, *, quiet: bool) -> None:
    from jasper_rag.explain.xai_figure import visualize_explanation

    visualize_explanation(explanation, title=question, save_path=path)
    console.say(f"picture: {path}", quiet=quiet)


def _explain_file(
    jasper: Jasper,
    questions: Path,
    output: Path,
    k: int,
    ranker: Ranker,
    steer: list[str] | None,
    strength: float,
    *,
    quiet: bool,
) -> None:
    from jasper_rag.batch_search import explain_file

    _require_file_place(output)
    count = explain_file(jasper, questions, output, k, ranker, steer=steer, strength=strength)
    console.say(f"{output}: {count:,} questions explained", quiet=quiet)
