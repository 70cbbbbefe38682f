"""Files and folders that are either the old one or the whole new one, never a half, whatever ends the process."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from jasper_rag.atomic_moves import INSIDE, recover, staged, sync, usual_mode
from jasper_rag.errors import InputError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of an `OSError` that says that no more can be written: to the disk, by the account, into one file."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is fsynced and renamed over `path`.

    An exception (a full disk included) or a kill leaves the old file as it was; an exception also removes the
    temporary file. The parent directory is created.

    Args:
        path: The file to create or replace.

    Raises:
        OSError: It cannot be written. Where there is no room, its `filename` is `path`.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files private (0600); what we leave behind should obey the user's umask.
            temporary.chmod(usual_mode())
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON atomically; non-finite numbers are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def replacing_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory; on a clean exit, once all of it is on disk, it takes the place of `path`.

    An exception leaves the old one untouched, and a kill leaves the old or the new one: see `recover`.

    Args:
        path: The directory to create or replace. Its parent is created.

    Raises:
        OSError: As `replacing`.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path, to_write=True)
        with staged(path.parent, path.name) as fresh:
            (fresh / path.name).mkdir()
            yield fresh / path.name


@contextmanager
def replacing_entries(directory: str | Path) -> Iterator[Path]:
    """Yield an empty directory inside `directory`; on a clean exit all it holds moves up, over what has the same name.

    For a directory that may hold other things too: they stay. While the block runs nothing in `directory` changes; an
    exception, in the block or while moving, leaves it as it was. After a kill while moving, `recover` moves the rest.

    Args:
        directory: Where the files and folders are to stand; created.

    Raises:
        OSError: As `replacing`.
    """
    directory = Path(directory)
    created = not directory.exists()
    with _naming(directory):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            recover(directory, to_write=True)
            with staged(directory, INSIDE) as fresh:
                yield fresh
        finally:
            if created:
                with suppress(OSError):  # not empty: all went well
                    directory.rmdir()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of an error that knows no file, or that there is no room for one, what was being written."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.errno in NO_ROOM:
            error.filename, error.filename2 = str(path), None
        raise
    except SafetensorError as error:
        # It tells the system's errors in words only.
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def require_replaceable(directory: str | Path, marker: str, noun: str) -> None:
    """Refuse a place where writing a whole folder would remove something else.

    Args:
        directory: Of the folder; it need not exist.
        marker: A file that every such folder has.
        noun: What such a folder is called: "model".

    Raises:
        InputError: It is a file, or a folder that is neither empty nor such a one.
    """
    path = Path(directory)
    if path.is_dir() and ((path / marker).is_file() or not any(path.iterdir())):
        return
    if path.exists():
        article = "An" if noun[0] in "aeiou" else "A"
        remedy = f"{article} {noun} replaces its whole folder: give a new or empty one."
        raise InputError(f"something else than {article.lower()} {noun} is here.", path=path, remedy=remedy)


def require_writable(directory: Path) -> None:
    """Refuse a folder that could not be written in the end, before any work is done; it need not exist yet.

    Raises:
        InputError: It is or lies below a file, its name is impossible, or it cannot be written to.
    """
    try:
        above = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        directory.exists()
    except OSError as error:  # a name of more than 255 characters
        raise InputError(f"{error.strerror}.", path=directory, remedy="Give a shorter name.") from error
    if not above.is_dir():
        raise InputError("is a file, not a folder.", path=above, remedy="Give another folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError("this folder cannot be written to.", path=above, remedy="Give a folder elsewhere.")
