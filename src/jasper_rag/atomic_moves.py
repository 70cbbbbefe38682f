"""Entries of a folder that take their places all or none, whatever ends the process.

New entries are made in a hidden folder, the staging, below the one they are meant for. Once they are on disk, a journal
of their names is put beside them: from then on they count. Then each takes its place, by swapping names where the
system can. The staging is locked as long as its process lives, so `recover` knows a dead one: it completes the moves of
a journal. Without a journal nothing had been moved, and the next writer removes the staging.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jasper_rag.file_locks import LOCK, NO_LOCKS, release, take

_SUFFIX = ".jasper-tmp"
INSIDE = "new"
"""Label of a staging for entries of the folder that it lies in."""

_FRESH, _ASIDE, _JOURNAL = "fresh", "aside", "journal.json"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP}


@contextmanager
def staged(target: Path, label: str) -> Iterator[Path]:
    """Yield an empty folder on the same file system; on a clean exit its entries move into `target`.

    What has the same name there is replaced, the rest stays. An exception, in the block or while moving, leaves
    `target` as it was.

    Args:
        target: An existing folder.
        label: Begins the hidden name of the staging.
    """
    staging, descriptor = _new_staging(target, label)
    done = True
    try:
        staging.chmod(usual_mode(0o777))
        (staging / _FRESH).mkdir()
        (staging / _ASIDE).mkdir()
        yield staging / _FRESH
        _settle(staging / _FRESH)
        journal = _write_journal(staging)
        try:
            for name, inode in journal.items():
                _move_up(staging, target, name, inode)
            sync(target)
        except BaseException:
            done = False  # until it is undone: the journal stays for `recover`
            for name, inode in journal.items():
                _move_back(staging, target, name, inode)
            done = True
            raise
    finally:
        if done:
            _remove(staging)
        if descriptor is not None:
            release(descriptor, staging / LOCK)


def recover(path: str | Path, *, to_write: bool = False) -> None:
    """Complete what a killed process left half moved at `path`; nothing happens if there is no such thing.

    Args:
        path: A folder that has been replaced, or whose entries have.
        to_write: For who is about to replace it: what a process left that was killed before it moved anything is
            removed, too, and moves that cannot be completed are an error, since they would later undo new ones. A
            reader who may not write takes what is there.

    Raises:
        OSError: `to_write`, and the moves cannot be completed.
    """
    path = Path(path).absolute()
    for target, labels in ((path.parent, (path.name, INSIDE)), (path, (INSIDE,))):
        for staging in _stagings(target, labels):
            moving = _exists(staging / _JOURNAL)
            if moving and to_write:
                _recover(staging, target)
            elif moving or to_write:
                with suppress(OSError, ValueError):
                    _recover(staging, target)


def exchange(one: Path, other: Path) -> bool:
    """Swap what two names mean, in one step.

    Returns:
        False, with nothing changed, where the system or the file system cannot.

    Raises:
        OSError: A name does not exist, or may not be changed.
    """
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on disk."""
    if sys.platform == "win32" and path.is_dir():  # pragma: no cover
        return  # it has no such thing
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def usual_mode(mode: int = 0o666) -> int:
    """Permissions of a new file (0o777: of a new folder) under the user's umask."""
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    return mode & ~umask


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or an older C library
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


def _new_staging(target: Path, label: str) -> tuple[Path, int | None]:
    while True:
        staging = Path(tempfile.mkdtemp(prefix=f".{label}.", suffix=_SUFFIX, dir=target))
        try:
            descriptor = take(staging / LOCK)
        except FileNotFoundError:
            continue  # another writer removed it before it was locked
        except OSError as error:
            if error.errno not in NO_LOCKS:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            return staging, None  # no locks here, so nobody else will touch it either
        if descriptor is not None:  # else another writer is removing it
            return staging, descriptor


def _settle(folder: Path) -> None:
    """Bring all of a folder to disk, and open what its writers made private through a temporary file."""
    mode = usual_mode()
    for directory, _, names in os.walk(folder):
        for path in (Path(directory, name) for name in names):
            if stat.S_IMODE(path.lstat().st_mode) == 0o600:
                path.chmod(mode)
            sync(path)
        sync(Path(directory))


def _write_journal(staging: Path) -> dict[str, int]:
    """Name -> inode of every fresh entry; once this file has its name, they are to take their places."""
    journal = {entry.name: entry.lstat().st_ino for entry in sorted((staging / _FRESH).iterdir())}
    draft = staging / f"{_JOURNAL}.tmp"
    draft.write_text(json.dumps(journal), encoding="utf-8")
    sync(draft)
    draft.rename(staging / _JOURNAL)
    sync(staging)
    return journal


def _move_up(staging: Path, target: Path, name: str, inode: int) -> None:
    """Take a fresh entry to its place; done again from any point at which it was broken off, it ends the same."""
    fresh, aside, place = staging / _FRESH / name, staging / _ASIDE / name, target / name
    if not _exists(fresh):
        return
    if _exists(place):
        # Swapped before, if the new one is there already: then `fresh` is the old one.
        if _inode(place) == inode or exchange(fresh, place):
            fresh.rename(aside)
            return
        place.rename(aside)
    fresh.rename(place)


def _move_back(staging: Path, target: Path, name: str, inode: int) -> None:
    fresh, aside, place = staging / _FRESH / name, staging / _ASIDE / name, target / name
    if _exists(fresh) and _inode(fresh) != inode and exchange(fresh, place):  # swapped, not yet put aside
        return
    if _inode(place) == inode:
        place.rename(fresh)
    if _exists(aside):
        aside.rename(place)


def _stagings(target: Path, labels: tuple[str, ...]) -> list[Path]:
    prefixes = tuple(f".{label}." for label in labels)
    try:
        found = [path for path in target.iterdir() if path.name.startswith(prefixes) and path.suffix == _SUFFIX]
        about = target.stat()
        # Where strangers may add but not remove, theirs must not decide what stands in our place.
        shared = sys.platform != "win32" and about.st_mode & stat.S_ISVTX
        owners = {os.geteuid(), about.st_uid} if shared else None
        return [path for path in found if path.is_dir() and (owners is None or path.stat().st_uid in owners)]
    except OSError:  # no such folder, or closed to us
        return []


def _recover(staging: Path, target: Path) -> None:
    descriptor = take(staging / LOCK)
    if descriptor is None:  # its process lives
        return
    try:
        for name, inode in _read_journal(staging).items():
            _move_up(staging, target, name, inode)
        sync(target)
        _remove(staging)
    finally:
        release(descriptor, staging / LOCK)


def _read_journal(staging: Path) -> Mapping[str, int]:
    path = staging / _JOURNAL
    if not path.exists():
        return {}
    journal: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    # A name from a file must not lead elsewhere.
    return {name: inode for name, inode in journal.items() if name and Path(name).name == name != ".."}


def _remove(staging: Path) -> None:
    # First of all: with a journal a half removed staging would be taken for a half moved one.
    (staging / _JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(staging, ignore_errors=True)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _inode(path: Path) -> int | None:
    return path.lstat().st_ino if _exists(path) else None
