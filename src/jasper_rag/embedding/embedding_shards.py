"""One file of stored vectors: self-describing, named by its own hash, mapped into memory on read.

A shard is `shard-<first 32 digits of its SHA-256>.safetensors` with the tensors `vectors` float32 [m, D] and
`text_sha256` uint8 [m, 32]. It is written whole and renamed into place, so a file with this name is complete, and its
name proves its bytes. Two processes that write to one folder cannot overwrite each other's work: other content has
another name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from jasper_rag.atomic_files import replacing
from jasper_rag.embedding.checksums import bytes_sha256, file_sha256
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError

Digests = NDArray[np.uint8]
"""SHA-256 of texts, uint8 [n, 32]."""

FORMAT_VERSION = 1
_METADATA_KEY = "jasper_rag"
_NAME_DIGITS = 32


@dataclass(frozen=True)
class Shard:
    """A stored, verified shard of m vectors."""

    path: Path
    sha256: str
    """Of the whole file."""
    digests: Digests
    """Of the texts, [m, 32]."""
    dimension: int
    """D."""
    offset: int
    """Byte at which the vectors begin."""

    def vectors(self) -> Vectors:
        """The vectors, float32 [m, D]: a read-only map of the file, loaded page by page as rows are taken."""
        shape = (len(self.digests), self.dimension)
        return np.memmap(self.path, dtype="<f4", mode="r", offset=self.offset, shape=shape)


def write_shard(folder: Path, vectors: Vectors, digests: Digests, fingerprint: str) -> Shard:
    """Write vectors as one new file.

    Args:
        folder: Where to; created.
        vectors: float32 [m, D].
        digests: SHA-256 of the m texts, uint8 [m, 32].
        fingerprint: Of the encoder and role, `EncoderIdentity.fingerprint`.
    """
    # One metadata key: with several, their order in the file, hence its hash, is not fixed.
    facts = json.dumps({"format_version": FORMAT_VERSION, "fingerprint": fingerprint}, sort_keys=True)
    tensors = {"vectors": np.ascontiguousarray(vectors, dtype="<f4"), "text_sha256": np.ascontiguousarray(digests)}
    content = save(tensors, metadata={_METADATA_KEY: facts})
    path = folder / f"shard-{bytes_sha256(content)[:_NAME_DIGITS]}.safetensors"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return read_shard(path, fingerprint, vectors.shape[1])


def read_shard(path: Path, fingerprint: str, dimension: int) -> Shard:
    """Verify a shard and read its digests; the vectors stay on disk.

    Raises:
        InputError: The file was cut or altered, or holds vectors of another encoder.
    """
    sha256 = file_sha256(path)
    if path.name != f"shard-{sha256[:_NAME_DIGITS]}.safetensors":
        raise _damaged(path, f"the file was cut or altered: its SHA-256 is {sha256}, which is not the one in its name")
    header, start = _read_header(path)
    try:
        facts = json.loads(header["__metadata__"][_METADATA_KEY])
        found = (facts["format_version"], facts["fingerprint"])
        (count, width), place = header["vectors"]["shape"], header["vectors"]["data_offsets"][0]
        digest_place = header["text_sha256"]["data_offsets"][0]
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path, f"this is no shard of an embedding store ({type(error).__name__}: {error})") from error
    if found != (FORMAT_VERSION, fingerprint) or width != dimension:
        raise InputError(
            f"this shard holds {width}-dimensional vectors of the encoder {found[1]} (format {found[0]}); "
            f"expected {dimension} dimensions of {fingerprint} (format {FORMAT_VERSION}).",
            path=path,
            remedy="Vectors of different encoders cannot be mixed; move the file out of this folder.",
        )
    digests = np.fromfile(path, dtype=np.uint8, count=count * 32, offset=start + digest_place).reshape(count, 32)
    return Shard(path=path, sha256=sha256, digests=digests, dimension=dimension, offset=start + place)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    # The layout of the format: 8 bytes little-endian length n, n bytes of JSON, the tensors.
    with path.open("rb") as file:
        # In a foreign file the first bytes can mean any length; reading no more than there is keeps it harmless.
        length = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
        content = file.read(length)
    try:
        header = json.loads(content)
    except ValueError as error:
        raise _damaged(path, "this is no safetensors file") from error
    return header, 8 + length


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{problem}.", path=path, remedy="Delete that file; its texts will be encoded again.")
