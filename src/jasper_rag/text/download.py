"""Downloads that go on where they stopped, and are checked before they count."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import logging
import os
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag.atomic_files import write_json
from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18
_RANGE_REFUSED = 416
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Source:
    """What the server said about a file: enough to know, later, that it is still the same one."""

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @property
    def validator(self) -> str:
        """The If-Range value: a strong ETag, or else the date (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _Broken(Exception):
    """The transfer stopped early; another try may go on from there."""


def download(
    url: str,
    target: str | Path,
    *,
    sha256: str = "",
    md5: str = "",
    tries: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download `url` to `target`, which is there afterwards whole and checked, or not at all.

    What has come so far is in `<target>.part`; after an interruption of any kind the next try, or the next call,
    asks for the rest only, with If-Range so that a file that changed on the server is taken anew. A target that
    exists is checked and kept.

    Args:
        url: An http or https address.
        target: The file to write.
        sha256: Expected hexadecimal digest; not checked if empty.
        md5: Likewise, for sets published with an MD5.
        tries: Tries in a row without a new byte before giving up.
        pause: Seconds before the second try; doubled before each further one.
        timeout: Seconds without an answer that end a try.

    Raises:
        InputError: The address cannot be reached or does not exist, the disk is full, or the digest differs.
    """
    target = Path(target)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url!r} is no http or https address.", remedy="Give one such as https://host/path.")
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _complete(url, part, tries, pause, timeout)
            _check(part, url, sha256, md5)
            part.replace(target)
        except OSError as error:
            raise disk_fault(error, part) from error
        _about(part).unlink(missing_ok=True)
    else:
        _check(target, url, sha256, md5)
    return target


def disk_fault(error: OSError, path: Path) -> InputError:
    """Return (not raise) what to tell about a file that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return InputError(
        "the disk is full." if full else f"cannot be written ({error.strerror or error}).",
        remedy=("Free some space" if full else "Give a directory that can be written to")
        + ", then run the same again: what has come so far is kept.",
        path=path,
    )


def _complete(url: str, part: Path, tries: int, pause: float, timeout: float) -> None:
    failed = 0
    furthest = _size(part)
    while True:
        try:
            _transfer(url, part, timeout)
            return
        except _Broken as error:
            failed = 0 if _size(part) > furthest else failed + 1
            furthest = max(furthest, _size(part))
            if failed >= tries:
                raise InputError(
                    f"{url}: no progress in {tries} tries, at {_size(part):,} bytes: {error}.",
                    remedy="Check the connection, then run the same again: it goes on from there. Or download the file "
                    f"elsewhere and copy it to {part.with_suffix('')}.",
                ) from error
            logger.info("%s: %s, trying again", url, error)
            time.sleep(min(pause * 2 ** max(failed - 1, 0), 60.0))


def _transfer(url: str, part: Path, timeout: float) -> None:
    """Ask once, for what is missing, and append it."""
    known = _recorded(part, url)
    have = _size(part) if known.validator else 0
    if have and have == known.size:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "jasper-rag"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                size: int | None = _continued(response, known, have)
            else:
                have = 0
                size = _begun(response, url, part)
            _append(response, part, have, size)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, url, part)
    except urllib.error.URLError as error:
        _unreached(error, url, part)
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(f"{type(error).__name__} {error}".strip()) from error


def _continued(response: Any, known: _Source, have: int) -> int:
    """Return the size of the whole file, from an answer that holds the rest of it."""
    given = response.headers.get("Content-Range", "")
    begin, _, total = given.removeprefix("bytes ").partition("/")
    if begin.partition("-")[0] != str(have) or not total.isdigit() or known.size not in (None, int(total)):
        raise _Broken(f"the server answered with another range than asked for ({given!r})")
    return int(total)


def _begun(response: Any, url: str, part: Path) -> int | None:
    """Make room for the whole file and record what the server says about it; return its size if that is known."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    part.unlink(missing_ok=True)  # before the record: old bytes must never stand under a new one
    validators = {"etag": response.headers.get("ETag", ""), "last_modified": response.headers.get("Last-Modified", "")}
    write_json(_about(part), {"url": url, **validators, "size": size})
    return size


def _append(response: Any, part: Path, start: int, size: int | None) -> None:
    if size is not None and shutil.disk_usage(part.parent).free < size - start:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    at = start
    with part.open("ab") as file, progress_bar(size or 0, f"fetching {part.stem}", "B") as bar:
        bar.update(start)
        while block := _read(response):
            file.write(block)
            at += len(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    if size is not None and at != size:
        raise _Broken(f"{at:,} of {size:,} bytes came")


def _read(response: Any) -> bytes:
    """Read a block; a connection that breaks is told apart here from a disk that fails."""
    try:
        block: bytes = response.read(_BLOCK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"{type(error).__name__} {error}".strip()) from error
    return block


def _refused(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    if error.code == _RANGE_REFUSED:
        part.unlink(missing_ok=True)  # longer than what the server has: not the same file
        raise _Broken("the server has no such range, starting anew") from error
    if error.code in _WORTH_ANOTHER_TRY:
        raise _Broken(f"the server answered {error.code} {error.reason}") from error
    raise InputError(
        f"{url}: the server answered {error.code} {error.reason}.", remedy="Check the name and the address."
    ) from error


def _unreached(error: urllib.error.URLError, url: str, part: Path) -> None:
    if isinstance(error.reason, socket.gaierror):
        host = urllib.parse.urlsplit(url).hostname
        target = part.with_suffix("")
        raise InputError(
            f"{url}: the address of {host} cannot be looked up: this machine seems to be offline.",
            remedy=f"Connect it, or download the file elsewhere, copy it to {target} and run the same again.",
        ) from error
    raise _Broken(f"{error.reason}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _recorded(part: Path, url: str) -> _Source:
    """Return what the server said when the part was begun; nothing if there is no usable record."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        record = json.loads(_about(part).read_text(encoding="utf-8"))
        texts = [record.get(key) for key in ("url", "etag", "last_modified")]
        size = record.get("size")
        if texts[0] == url and all(isinstance(text, str) for text in texts) and isinstance(size, int | None):
            return _Source(url, texts[1], texts[2], size)
    return _Source(url)


def _check(path: Path, url: str, sha256: str, md5: str) -> None:
    """Compare digests; a file that fails is removed, for it would fail for ever."""
    for name, expected in (("sha256", sha256.strip().lower()), ("md5", md5.strip().lower())):
        found = _digest(path, name) if expected else ""
        if found != expected:
            path.unlink()
            _about(path).unlink(missing_ok=True)
            raise InputError(
                f"{url}: the {name} of what came is {found}, expected {expected}; it was removed.",
                remedy="Run the same again; if it stays so, the file at this address is another one.",
            )


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
