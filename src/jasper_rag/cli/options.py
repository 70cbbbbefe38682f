"""Flags that several verbs share, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.errors import InputError


def named_path(value: str) -> Path:
    """A path; an empty one (an unset shell variable) would be the current folder.

    Raises:
        InputError: It is empty.
    """
    if not value.strip():
        raise InputError("an empty path was given.", remedy="Name a file or folder; is a shell variable unset?")
    return Path(value)


def require_checkpoint(path: str | Path | None, remedy: str) -> None:
    """Refuse a checkpoint that is not there before torch is imported to read it; None: none was asked for.

    Raises:
        InputError: There is no such file.
    """
    if path is not None and not Path(path).is_file():
        raise InputError("there is no checkpoint here.", path=path, remedy=remedy)


OutputDir = Annotated[Path, typer.Option("--output-dir", parser=named_path, metavar="<path>", help="Folder to write.")]
RunDirectory = Annotated[Path, typer.Option("--run", help="Run directory that `jasper fit` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No talk on stderr, no progress bars.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never contact a model hub.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings; flags override it.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same numbers on a CPU. [default: 0]")]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="Model name on the hub, a folder, or a checkpoint (.pt). [default: all-MiniLM-L6-v2]"
    ),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-seq-length", min=3, help="Tokens read of a text. [default: the model's limit]")
]
Language = Annotated[str | None, typer.Option("--language", help="Of BM25's stemmer; `none` for none.")]
Chunk = Annotated[
    str | None, typer.Option("--chunk", help="Cut long documents: tokens, headings, sentences. [default: none]")
]
ChunkSize = Annotated[int | None, typer.Option("--chunk-size", help="Most tokens of a passage. [default: 200]")]
ChunkOverlap = Annotated[
    int | None, typer.Option("--chunk-overlap", help="Tokens that neighbours share. [default: 32]")
]
PseudoQuestions = Annotated[
    str | None,
    typer.Option("--pseudo-questions", help="Sentences beside real questions: auto, always, never. [default: auto]"),
]
