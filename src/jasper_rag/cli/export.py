"""`jasper export`: a trained model for programs that do not have this package."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.cli import console, options


class Format(StrEnum):
    """What an export can be asked for."""

    NUMPY = "numpy"
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    ONNX = "onnx"
    ALL = "all"


def export(
    run: options.RunDirectory,
    to: Annotated[Path, typer.Option("--to", help="Folder to write; an older export there is replaced.")],
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="What to write. [default: every format that can be made]", show_default=False),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Write the trained search for programs without this package.

    A numpy predictor with a loader of one small file, a sentence-transformers folder whose encode_query is the search
    vector, an ONNX graph. All may stand in one folder. Every format is compared with the model before it counts.

    Example:  jasper export --run runs/scifact --to exported
    """
    from jasper_rag.export.export_directory import WRITERS, require_replaceable, write_export
    from jasper_rag.jasper import Jasper

    require_replaceable(to)
    chosen = None if format_ is None else list(WRITERS) if format_ is Format.ALL else [format_.value]
    with console.talking(quiet):
        written = write_export(Jasper.load(run, offline=offline), to, chosen)
    for name, reason in written.left_out.items():
        console.say(f"left out: {name}: {reason}", quiet=quiet)
    if as_json:
        differences, files = dict(written.differences), {name: list(names) for name, names in written.files.items()}
        found = {"directory": str(to), "differences": differences, "files": files, "left_out": dict(written.left_out)}
        console.put_json(found)
        return
    for name, difference in written.differences.items():
        print(f"{name}: differs from JASPER by at most {difference:.1e}")
    console.say(f"\nhow to use them: {to / 'README.md'}", quiet=quiet)
