"""SHA-256 of files, computed once per process for a file that has not changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits; remembered by (path, size, modification time).

    Raises:
        OSError: The file cannot be read.
    """
    path = Path(path)
    status = path.stat()
    return _file_sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _file_sha256(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_sha256(content: bytes) -> str:
    """SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def content_sha256(description: Mapping[str, object], own: str) -> str:
    """SHA-256 of a description as JSON with sorted keys, without the entry `own` that holds it."""
    content = {key: value for key, value in description.items() if key != own}
    return bytes_sha256(json.dumps(content, sort_keys=True).encode())
