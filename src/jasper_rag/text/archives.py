"""Unpacking a zip file that somebody else made: nothing outside the folder, nothing endless, all of it or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from jasper_rag.errors import InputError

MOST_MEMBERS = 10_000
"""Members of one archive."""

MOST_TIMES = 200
"""How many times larger than the archive its contents may be; text is five, seldom twenty times."""

SMALL = 1 << 20
"""Bytes that are allowed whatever the ratio."""

_BLOCK = 1 << 20
_LEFT_OUT = ("__MACOSX", ".DS_Store")


@contextmanager
def unpacked(archive: str | Path, directory: str | Path, most_bytes: int | None = None) -> Iterator[Path]:
    """Yield a temporary folder in `directory` with the archive's files; it is gone afterwards.

    Move what you want out of it before the block ends.

    Args:
        archive: The zip file.
        directory: An existing folder, on the disk where the files are to stay.
        most_bytes: Most bytes of all files together; no limit but the ratio and the disk by default.

    Raises:
        InputError: Not a readable zip file, or one with encrypted members, links, names that lead out of the
            folder or collide, too many members, or contents too large.
        OSError: The files cannot be written; ENOSPC also where it is known beforehand that they will not fit.
    """
    archive, directory = Path(archive), Path(directory)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", suffix=".tmp", dir=directory))
    folder = temporary / "contents"  # a temporary folder is private, what becomes of this one is not
    try:
        folder.mkdir()
        try:
            with zipfile.ZipFile(archive) as opened:
                members = _checked(opened.infolist(), archive, most_bytes)
                if sum(member.file_size for member, _ in members) > shutil.disk_usage(directory).free:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                for member, name in members:
                    _extract(opened, member, folder / name)
        except InputError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            raise _fault(f"not a readable zip file ({error})", archive) from error
        except OSError as error:
            if error.errno == errno.EINVAL:  # a position before the file's beginning
                raise _fault("not a readable zip file (wrong positions)", archive) from error
            raise
        yield folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _checked(
    members: list[zipfile.ZipInfo], archive: Path, most_bytes: int | None
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Return the files with their checked names; folders come with them."""
    if len(members) > MOST_MEMBERS:
        raise _fault(f"{len(members):,} members, at most {MOST_MEMBERS:,} are taken", archive)
    named = [(member, _safe_name(member, archive)) for member in members]
    files = [(member, name) for member, name in named if not member.is_dir() and not _is_left_out(name)]
    taken: set[str] = set()
    for member, name in files:
        # Two names that differ in case only are one file on some disks.
        if (folded := name.as_posix().casefold()) in taken:
            raise _fault(f"two members are called {name.as_posix()!r}", archive)
        taken.add(folded)
        if member.file_size > max(SMALL, MOST_TIMES * member.compress_size):
            raise _fault(f"member {name.as_posix()!r} claims {member.file_size:,} bytes", archive)
    if not taken.isdisjoint(parent.as_posix().casefold() for _, name in files for parent in name.parents):
        raise _fault("one name is a file and a folder", archive)
    total = sum(member.file_size for member, _ in files)
    if total > max(SMALL, MOST_TIMES * archive.stat().st_size):
        raise _fault(f"its contents claim {total:,} bytes, over {MOST_TIMES} times its size", archive)
    if most_bytes is not None and total > most_bytes:
        raise _fault(f"its contents claim {total:,} bytes, at most {most_bytes:,} are taken", archive)
    return files


def _safe_name(member: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    name = member.filename
    parts = name.rstrip("/").split("/")
    mode = member.external_attr >> 16
    if member.flag_bits & 0x1:
        raise _fault(f"member {name!r} is encrypted", archive)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _fault(f"member {name!r} is compressed in another way than deflate", archive)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _fault(f"member {name!r} is a link or device", archive)
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or set(name) & set("\\:"):
        raise _fault(f"the member's name {name!r} leads out of the folder", archive)
    return PurePosixPath(*parts)


def _is_left_out(name: PurePosixPath) -> bool:
    return name.parts[0] in _LEFT_OUT or name.name in _LEFT_OUT or name.name.startswith("._")


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, target.open("xb") as file:
        # No more than the claimed size comes, whatever is inside; the member's checksum is compared at its end.
        shutil.copyfileobj(source, file, _BLOCK)
        file.flush()
        os.fsync(file.fileno())


def _fault(problem: str, archive: Path) -> InputError:
    return InputError(f"{problem}.", remedy="Get the archive from its source again.", path=archive)
