"""`.pt` files as the zip archives they are: are their parts whole?"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from jasper_rag.data.storage.stored import UnreadableFile

# A name that is no longer UTF-8 is a ValueError, an unknown method or a password a RuntimeError.
DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, ValueError)
"""What `zipfile` raises for an archive that is damaged."""

_REMEDY = "Build the dataset again, or copy the file again."


def verify_archive(path: Path, content: bytes | None = None) -> None:
    """Compare the CRCs in a `.pt` file with what they are of; torch itself does not look at those of tensors.

    Files that torch wrote before version 1.6 are no archives and have none.

    Args:
        path: The file.
        content: Its bytes, if they have been read.

    Raises:
        UnreadableFile: The file is damaged.
    """
    file = path if content is None else io.BytesIO(content)
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except DAMAGED_ARCHIVE as error:
        raise UnreadableFile(f"damaged: {error}", remedy=_REMEDY, path=path) from error
    if damaged is not None:
        raise UnreadableFile(f"damaged: the CRC of {damaged} differs", remedy=_REMEDY, path=path)
