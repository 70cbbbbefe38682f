"""Are the files of a dataset directory the ones that were written? By checksums.json, or by the CRC inside `.pt`."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jasper_rag import dataset_layout as layout
from jasper_rag.data.dataset_config import read_json
from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.storage.archives import verify_archive
from jasper_rag.errors import InputError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_THREADS = 4
_NAME = re.compile(r"[\w.-]+")
_REMEDY = "Copy the directory again, or build it again; verify=False serves it as it is."


def verify_files(root: Path, used: Iterable[str], expected: bool) -> None:
    """Compare every file that `checksums.json` names, and require it to name every file in use.

    Without `checksums.json`, the CRCs in `.pt` files are compared; torch itself does not look at those of tensors.

    Args:
        root: The directory.
        used: Names of the files that were read.
        expected: Whether the directory should have checksums; if it has none, a `DatasetWarning` says so.

    Raises:
        InputError: A file is missing, altered or not named; or the checksums themselves are damaged.
    """
    path = root / layout.CHECKSUMS_FILE
    if path.exists():
        _verify_digests(path, set(used))
        return
    if expected:
        fault = f"{root}: {layout.CHECKSUMS_FILE} is missing, so damage to the files cannot be seen"
        warnings.warn(fault, DatasetWarning, stacklevel=2)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(verify_archive, [root / name for name in used if name.endswith(".pt")]))


def named_files(root: Path) -> set[str]:
    """Names of the files that `checksums.json` vouches for; none where there is no such file.

    Raises:
        InputError: It is damaged.
    """
    path = root / layout.CHECKSUMS_FILE
    return set(_read(path)) if path.exists() else set()


def _verify_digests(path: Path, used: set[str]) -> None:
    root = path.parent
    digests = _read(path)
    unnamed = sorted(used - set(digests) - layout.CHECKSUM_FREE)
    if unnamed:
        raise InputError(f"has no checksum of {', '.join(unnamed)}", remedy=_REMEDY, path=path)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_digest, [root / name for name in digests]))
    for (name, digest), actual in zip(digests.items(), found, strict=True):
        if actual is None:
            raise InputError(f"is missing, but {layout.CHECKSUMS_FILE} names it", remedy=_REMEDY, path=root / name)
        if actual != digest:
            problem = f"altered or cut: its SHA-256 is {actual}, {digest} is expected"
            raise InputError(problem, remedy=_REMEDY, path=root / name)


def _digest(path: Path) -> str | None:
    """SHA-256 of a file's bytes, read anew each time; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _read(path: Path) -> Mapping[str, str]:
    value = read_json(path)
    files = value.get("files") if isinstance(value, dict) else None
    sound = (
        isinstance(files, dict)
        and value.get("format_version") == layout.FORMAT_VERSION
        and value.get("algorithm") == "sha256"
        and all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in files.values())
        and all(_NAME.fullmatch(name) and name not in layout.CHECKSUM_FREE for name in files)
    )
    if not sound or not isinstance(files, dict):
        problem = 'expected {"format_version": 1, "algorithm": "sha256", "files": {name: 64 hexadecimal digits}}'
        raise InputError(f"no list of checksums; {problem}", remedy=_REMEDY, path=path)
    return files
