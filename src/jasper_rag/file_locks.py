"""One writer at a time: locks of the operating system, which end with their process however that ends."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from jasper_rag.errors import InputError

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

LOCK = ".lock"

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""Numbers of an `OSError` that says that a file system knows no locks."""

_HELD: ContextVar[frozenset[Path]] = ContextVar("jasper_rag_held", default=frozenset())
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
# Windows forbids others to read what is locked: a byte that no file has leaves the owner's name readable.
_FAR_BYTE = 1 << 30


@contextmanager
def exclusive(directory: str | Path, activity: str = "writing here") -> Iterator[None]:
    """Hold `directory` against every other process and thread; within the block it may be held again.

    The lock lies on the hidden file `.lock` in it (`flock`; on Windows `msvcrt.locking`), which is removed at the end.
    A process that is killed leaves that file at most, and no lock. Where the file system knows no locks, a warning is
    logged and the block runs unprotected.

    Args:
        directory: Created; removed again if it was created here and is empty at the end.
        activity: What the holder does there, for the message to others.

    Raises:
        InputError: Another one holds it; raised at once.
    """
    place = Path(directory).resolve()
    if place in _HELD.get():
        yield
        return
    created = not place.exists()
    try:
        descriptor = _held_or_refused(place / LOCK, activity)
        token = _HELD.set(_HELD.get() | {place})
        try:
            yield
        finally:
            _HELD.reset(token)
            if descriptor is not None:
                release(descriptor, place / LOCK)
    finally:
        if created:
            with suppress(OSError):  # not empty: the work was done
                place.rmdir()


def _held_or_refused(path: Path, activity: str) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = take(path)
        except FileNotFoundError:  # its last holder has just removed the directory
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: no locks on this file system; run one jasper at a time here", path.parent)
            return None
        if descriptor is None:
            remedy = "Wait until it has ended, or give another directory."
            raise InputError(f"another jasper is {activity}{_owner(path)}.", path=path.parent, remedy=remedy)
        with suppress(OSError):  # a full disk: the lock holds without a name, too
            about = f"pid {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            os.ftruncate(descriptor, 0)
            os.write(descriptor, about.encode())
        return descriptor


def take(path: Path) -> int | None:
    """Lock the file `path`, made if missing, without waiting.

    Returns:
        A descriptor for `release`, or None if the file is locked, be it by this process.

    Raises:
        OSError: The file cannot be made, or the file system knows no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            # Its last holder may have removed the file between our two calls: others would lock a new one.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                return None
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def release(descriptor: int, path: Path) -> None:
    """Remove the locked file and end the lock."""
    with suppress(OSError):  # gone with its directory; or Windows, which keeps what is open
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            path.unlink()
    _unlock(descriptor)
    os.close(descriptor)
    if sys.platform == "win32":  # pragma: no cover
        with suppress(OSError):
            path.unlink()


if sys.platform == "win32":  # pragma: no cover

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        # Closing is not enough where a forked child has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _owner(path: Path) -> str:
    try:
        found = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f" ({found[:200]})" if found.startswith("pid ") else ""
