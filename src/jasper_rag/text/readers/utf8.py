"""UTF-8 lines with their numbers; every fault of the file itself becomes an `InputError`."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from jasper_rag.errors import InputError


def utf8_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (1-based line number, line with its line end), one line in memory at a time.

    Only "\n" ends a line: the other characters Unicode calls line breaks may stand inside a JSON string.
    A byte order mark at the start is dropped.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, cannot be read, or is not UTF-8 (with line and byte offset).
    """
    try:
        with path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, start=1):
                yield number, _decoded(raw, path, number, offset)
                offset += len(raw)
    except FileNotFoundError:
        raise InputError("this file does not exist.", remedy="Check the path.", path=path) from None
    except OSError as error:
        raise InputError(
            f"this file cannot be read ({error.strerror or error}).",
            remedy="Give a readable, regular file.",
            path=path,
        ) from error


def require_utf8_name(path: Path) -> None:
    """Refuse a file or folder whose name is not UTF-8: a set is called after it, in files that are.

    Raises:
        InputError: It is not.
    """
    try:
        path.resolve().name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("the name is not UTF-8.", remedy="Rename it.", path=repr(str(path))) from error


def _decoded(raw: bytes, path: Path, number: int, offset: int) -> str:
    body = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + len(raw) - len(body) + error.start
        utf16 = number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        guess = "It looks like UTF-16. " if utf16 else ""
        raise InputError(
            f"not UTF-8: byte 0x{body[error.start]:02x} at byte offset {at} of the file.",
            remedy=f"{guess}Save the file as UTF-8 (for example: iconv -f LATIN1 -t UTF-8).",
            path=path,
            line=number,
        ) from error
