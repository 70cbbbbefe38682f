"""Files that are either the old one or the whole new one, never a half: temporary name, fsync, rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is fsynced and renamed over `path`.

    An exception (a full disk included) or a kill leaves the old file as it was; an exception also removes the
    temporary file. The parent directory is created.

    Args:
        path: The file to create or replace.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private (0600); what we leave behind should obey the user's umask.
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
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


def _umask() -> int:
    # It can only be read by setting it.
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`; on a clean exit it takes the place of `path`.

    The old directory is moved aside only once the new one is complete and on disk, and is removed after; an
    exception leaves the old one untouched and removes the new one.

    Args:
        path: The directory to create or replace.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    aside = temporary.with_suffix(".old")
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for directory, _, files in os.walk(temporary):
            for name in files:
                _sync(Path(directory, name))
            _sync(Path(directory))
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
        _sync(path.parent)
    except BaseException:
        if aside.exists():
            if path.exists():
                path.rename(temporary)
            aside.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def replacing_entries(directory: str | Path) -> Iterator[Path]:
    """Yield an empty directory inside `directory`; on a clean exit all it holds moves up, over what has the same name.

    For a directory that may hold other things too: they stay. While the block runs nothing in `directory` changes; an
    exception, in the block or while moving, leaves it as it was.

    Args:
        directory: Where the files and folders are to stand; created.
    """
    directory = Path(directory)
    created = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new.", suffix=".tmp", dir=directory))
    fresh, aside = temporary / "fresh", temporary / "aside"
    fresh.mkdir()
    aside.mkdir()
    moved: list[str] = []
    try:
        yield fresh
        for name in sorted(entry.name for entry in fresh.iterdir()):
            moved.append(name)
            with suppress(FileNotFoundError):
                (directory / name).rename(aside / name)
            (fresh / name).rename(directory / name)
        _sync(directory)
    except BaseException:
        for name in moved:
            if not (fresh / name).exists():
                (directory / name).rename(fresh / name)
            if (aside / name).exists():
                (aside / name).rename(directory / name)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if created:
            with suppress(OSError):  # not empty: all went well
                directory.rmdir()
