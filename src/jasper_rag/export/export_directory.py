"""A directory with a model in one or several formats; all of a new export or none."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jasper_rag.atomic_files import replacing_directory, write_json, write_text
from jasper_rag.errors import InputError
from jasper_rag.export.model_card import model_card
from jasper_rag.export.query_map import query_map
from jasper_rag.jasper import Jasper

Writer = Callable[[Jasper, Path], float]

MARKER, CARD = "jasper_export.json", "README.md"
FORMAT_VERSION = 1
WRITERS: Mapping[str, str] = {
    "numpy": "numpy_predictor.write_numpy",
    "sentence-transformers": "sentence_transformer.write_sentence_transformer",
    "onnx": "onnx_predictor.write_onnx",
}
"""Format -> what writes it; loaded when asked for, since each needs another library."""


@dataclass(frozen=True, slots=True)
class Export:
    """What an export holds.

    Args:
        differences: Format -> largest difference from `Jasper.transform` found in its numbers.
        files: Format -> names in the directory.
        left_out: Format -> why it could not be made.
    """

    differences: Mapping[str, float]
    files: Mapping[str, Sequence[str]]
    left_out: Mapping[str, str]


def write_export(jasper: Jasper, directory: str | Path, formats: Sequence[str] | None = None) -> Export:
    """Write a model in other programs' formats; an older export stays whole until the new one is complete.

    Args:
        jasper: Fitted or loaded.
        directory: Created, or replaced if it is an export.
        formats: Names in `WRITERS`; None writes each that can be made here, and says why the others cannot.

    Raises:
        InputError: An unknown format, a format that cannot be made, or a directory that holds something else.
    """
    unknown = sorted(set(formats or ()) - WRITERS.keys())
    if unknown:
        remedy = f"Choose from: {', '.join(WRITERS)}."
        raise InputError(f"there is no format {unknown[0]!r}.", field="format", remedy=remedy)
    require_replaceable(directory)
    exported = query_map(jasper)
    differences: dict[str, float] = {}
    files: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    with replacing_directory(directory) as folder:
        for name in formats or WRITERS:
            part = folder / f".{name}"
            part.mkdir()
            try:
                differences[name] = _writer(name)(jasper, part)
            except InputError as error:
                if formats is not None:
                    raise
                left_out[name] = str(error)
                shutil.rmtree(part)
                continue
            files[name] = sorted(path.name for path in part.iterdir())
            for path in part.iterdir():
                path.rename(folder / path.name)
            part.rmdir()
        written = Export(differences, files, left_out)
        write_text(folder / CARD, model_card(jasper.model.name, exported, differences))
        write_json(folder / MARKER, {"format_version": FORMAT_VERSION, "name": jasper.model.name, **asdict(written)})
        _share(folder)
    return written


def require_replaceable(directory: str | Path) -> None:
    """Refuse a place where an export cannot be written, or would remove something else.

    Raises:
        InputError: It is or lies below a file, cannot be written to, or holds anything that no export put there.
    """
    path = Path(directory).absolute()
    above = next(place for place in (path, *path.parents) if place.exists())
    if not above.is_dir():
        raise InputError("is a file, not a folder.", path=above, remedy="Give another folder.")
    if not os.access(path.parent if above == path else above, os.W_OK | os.X_OK):
        raise InputError("this folder cannot be written to.", path=above, remedy="Give a folder elsewhere.")
    if above == path and (strange := _strangers(path)):
        remedy = "An export replaces its whole folder: give a new or empty one."
        raise InputError(f"holds something that is not an export ({strange[0]}).", path=directory, remedy=remedy)


def _share(folder: Path) -> None:
    """Give every file the permissions of a new file: safetensors makes its files private, an export is for others."""
    mode = (folder / MARKER).stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _strangers(folder: Path) -> list[str]:
    """Names in `folder` that no export put there; Python leaves `__pycache__` where the loader was imported."""
    known = {MARKER, CARD, "__pycache__"}
    try:
        for names in json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"].values():
            known |= set(names)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        known = set()  # no marker, or not one of ours: whatever is here is somebody else's
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in known)


def _writer(name: str) -> Writer:
    module, function = WRITERS[name].split(".")
    writer: Writer = getattr(importlib.import_module(f"jasper_rag.export.{module}"), function)
    return writer
