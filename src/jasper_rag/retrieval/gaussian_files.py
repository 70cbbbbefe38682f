"""A Gaussian retriever's index on disk: vectors as safetensors, documents as JSONL, and a description of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jasper_rag.atomic_files import replacing_directory, require_replaceable, write_json
from jasper_rag.atomic_moves import recover
from jasper_rag.embedding.checksums import content_sha256, file_sha256
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.errors import InputError
from jasper_rag.retrieval.stored_documents import StoredDocument

FORMAT_VERSION = 1
DESCRIPTION, VECTORS, DOCUMENTS = "gaussian_index.json", "vectors.safetensors", "documents.jsonl"

_REMEDY = "Build the index again: add_documents, then save_index."
_OWN_CHECKSUM = "content_sha256"


def write_gaussian_index(
    directory: str | Path,
    identity: EncoderIdentity,
    vectors: NDArray[np.float32],
    documents: Sequence[StoredDocument],
) -> None:
    """Write an index; an older one at `directory` stays whole until the new one is complete.

    Args:
        directory: A folder of its own.
        identity: Of the encoder of the vectors.
        vectors: float32 [n, d].
        documents: The n documents, in that order.

    Raises:
        InputError: `directory` holds something else, which would be lost.
    """
    require_replaceable(directory, DESCRIPTION, "index")
    with replacing_directory(directory) as folder:
        save_file({"vectors": np.ascontiguousarray(vectors)}, folder / VECTORS)
        with (folder / DOCUMENTS).open("w", encoding="utf-8", newline="\n") as stream:
            for document in documents:
                row = {"id": document.id, "text": document.text, "metadata": dict(document.metadata)}
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        description: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "documents": len(documents),
            "dimension": int(vectors.shape[1]),
            "encoder": identity.to_json(),
            "sha256": {name: file_sha256(folder / name) for name in (VECTORS, DOCUMENTS)},
        }
        description[_OWN_CHECKSUM] = content_sha256(description, _OWN_CHECKSUM)
        write_json(folder / DESCRIPTION, description)


def read_gaussian_index(
    directory: str | Path,
) -> tuple[EncoderIdentity, NDArray[np.float32], list[StoredDocument]]:
    """Read what `write_gaussian_index` wrote: identity, vectors float32 [n, d] and the n documents.

    Raises:
        InputError: No index there, another format, or a file that is missing, truncated or altered.
    """
    folder = Path(directory)
    recover(folder)
    description = _read_description(folder)
    for name in (VECTORS, DOCUMENTS):
        path = folder / name
        if not path.is_file():
            raise InputError("the file is missing.", path=path, remedy=_REMEDY)
        if file_sha256(path) != description["sha256"].get(name):
            raise InputError("does not match its checksum: truncated or altered.", path=path, remedy=_REMEDY)
    try:
        identity = EncoderIdentity.from_json(description["encoder"])
        vectors = load_file(folder / VECTORS)["vectors"]
        lines = (folder / DOCUMENTS).read_text(encoding="utf-8").split("\n")[:-1]
        documents = [StoredDocument(**json.loads(line)) for line in lines]
        expected = (description["documents"], description["dimension"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", path=folder, remedy=_REMEDY) from error
    if vectors.dtype != np.float32 or vectors.shape != expected or len(documents) != expected[0]:
        problem = f"{len(documents)} documents, vectors {list(vectors.shape)}; expected {list(expected)}."
        raise InputError(problem, path=folder, remedy=_REMEDY)
    return identity, vectors, documents


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        remedy = "Give the folder that save_index wrote."
        raise InputError(f"there is no index here (no {DESCRIPTION}).", path=folder, remedy=remedy)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError("not valid JSON.", path=path, remedy=_REMEDY) from error
    found = description.get("format_version") if isinstance(description, dict) else None
    if not isinstance(description, dict) or found != FORMAT_VERSION:
        problem = f"index format {found!r}; this version reads {FORMAT_VERSION}."
        raise InputError(problem, path=path, field="format_version", remedy=_REMEDY)
    if description.get(_OWN_CHECKSUM) != content_sha256(description, _OWN_CHECKSUM):
        raise InputError("does not match its own checksum.", path=path, field=_OWN_CHECKSUM, remedy=_REMEDY)
    return description
