"""An index on disk: tensors in one safetensors file, streamed out and mapped in, and a JSON file that vouches for it.

The tensor file is named by its own SHA-256 and never changed; the description names it and is replaced last. So a
directory always holds the old index or the new one, whenever the writing ends.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from jasper_rag.atomic_files import replacing, write_json
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.errors import InputError

FORMAT_VERSION = 1
_DESCRIPTION = "index.json"
_REMEDY = "Build the index again."
_METADATA_KEY = "jasper_rag"
_ALIGNMENT = 64
_FILE_NAME = re.compile(r"vectors-[0-9a-f]{32}\.safetensors")

_DTYPES: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I8": "|i1", "BF16": "<i2"}
"""Name in the file -> NumPy's; bfloat16 numbers are handled by their bits."""


class Tensor(NamedTuple):
    """A tensor to write, block by block."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[NDArray[Any]]
    """Along the first axis; together they have the shape."""


@dataclass(frozen=True)
class StoredIndex:
    """What `read_index` found."""

    facts: Mapping[str, Any]
    """As given to `write_index`."""
    tensors: Mapping[str, NDArray[Any]]
    """Read-only maps of the file."""


def write_index(directory: str | Path, facts: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Write `index.json` and the tensor file it names; the tensor file of the index that was here is removed.

    Args:
        directory: Where to; made if missing.
        facts: What JSON can hold.
        tensors: float64, float32, float16, int64, int8, or int16 for the bits of bfloat16.
    """
    directory = Path(directory)
    before = _named_file(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # The name is known at the end only; a folder of its own keeps another process from writing to the same file.
    with TemporaryDirectory(prefix=".vectors-", dir=directory) as private:
        with replacing(Path(private) / "vectors") as temporary:
            digest = _write_tensors(temporary, facts, tensors)
        path = directory / f"vectors-{digest[:32]}.safetensors"
        (Path(private) / "vectors").replace(path)
    write_json(directory / _DESCRIPTION, {"format_version": FORMAT_VERSION, "file": path.name, "sha256": digest})
    if before is not None and before != path:
        before.unlink(missing_ok=True)


def read_index(directory: str | Path) -> StoredIndex:
    """Read and check what `write_index` wrote.

    Raises:
        InputError: If a file is missing, cut, altered, or of another version.
    """
    path = Path(directory) / _DESCRIPTION
    description = _read_description(path)
    tensors = path.with_name(description["file"])
    try:
        if file_sha256(tensors) != description["sha256"]:
            raise InputError(
                f"cut or altered: not what {_DESCRIPTION} names (sha256 differs)", path=tensors, remedy=_REMEDY
            )
        return _mapped(tensors)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", remedy=_REMEDY, path=tensors) from error


def _read_description(path: Path) -> dict[str, str]:
    try:
        description = dict(json.loads(path.read_text(encoding="utf-8")))
        version, found = description["format_version"], {name: description[name] for name in ("file", "sha256")}
    except OSError as error:
        raise InputError(
            f"no vector index here ({error.strerror})", remedy="Build it and save it first.", path=path
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("not the description of a vector index", remedy=_REMEDY, path=path) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"format version {version!r}, but this program reads {FORMAT_VERSION}",
            remedy=_REMEDY,
            path=path,
            field="format_version",
        )
    if not _FILE_NAME.fullmatch(str(found["file"])):
        raise InputError(f"names {found['file']!r} as the file of vectors", remedy=_REMEDY, path=path, field="file")
    return found


def _named_file(directory: Path) -> Path | None:
    """The tensor file of the index that is in the directory, if there is a sound description of one."""
    try:
        return directory / _read_description(directory / _DESCRIPTION)["file"]
    except InputError:
        return None


def _write_tensors(path: Path, facts: Mapping[str, Any], tensors: Sequence[Tensor]) -> str:
    """Write a safetensors file and return its SHA-256; memory is that of one block."""
    names = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {_METADATA_KEY: json.dumps(facts)}}
    end = 0
    for tensor in tensors:
        size = int(np.prod(tensor.shape)) * tensor.dtype.itemsize
        header[tensor.name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    content = json.dumps(header).encode()
    content += b" " * (-(len(content) + 8) % _ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for part in (len(content).to_bytes(8, "little"), content):
            stream.write(part)
            digest.update(part)
        for tensor in tensors:
            for block in tensor.blocks:
                part = np.ascontiguousarray(block, dtype=tensor.dtype.newbyteorder("<")).tobytes()
                stream.write(part)
                digest.update(part)
    return digest.hexdigest()


def _mapped(path: Path) -> StoredIndex:
    """Map a file whose hash is right, so that it is as it was written."""
    metadata, tensors = mapped_tensors(path)
    return StoredIndex(json.loads(metadata[_METADATA_KEY]), tensors)


def mapped_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of a safetensors file, the tensors as memory maps that are read where they are used.

    The file must be known to be whole: a map of a damaged one ends the process, not the call.
    """
    with safe_open(path, framework="np"):
        pass  # the library checks the header: lengths, types and places of all tensors
    # The layout of the format: 8 bytes little-endian length n, n bytes of JSON, the tensors.
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    metadata: dict[str, str] = header.pop("__metadata__", {})
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        # An empty range of a file cannot be mapped.
        tensors[name] = (
            np.memmap(path, dtype=dtype, mode="r", offset=8 + length + entry["data_offsets"][0], shape=shape)
            if 0 not in shape
            else np.zeros(shape, dtype=dtype)
        )
    return metadata, tensors
