"""Vectors on disk, found again by the content of their text: each text is encoded once per encoder and role.

Layout: `<root>/<fingerprint of encoder and role>/` holds shards (see `embedding_shards`) and `manifest.json`. The
shards are the truth: every complete one found is used. The manifest says in words whose vectors these are and lists
the shards; it is derived, rewritten when it falls behind, and no order of writes can leave the two in conflict.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jasper_rag.atomic_files import write_json
from jasper_rag.embedding.embedding_shards import FORMAT_VERSION, Digests, read_shard, write_shard
from jasper_rag.embedding.encoder import Encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Role, Vectors, check_unit_rows, require_texts
from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreReport:
    """What one call of the store did, in texts."""

    total: int
    unique: int
    reused: int
    """Unique texts found in the store."""
    encoded: int
    """Unique texts that were new."""
    seconds: float
    """Wall time of the whole call."""


class Embedding(NamedTuple):
    """Vectors and how they came about."""

    vectors: Vectors
    report: StoreReport


def default_store_root() -> Path:
    """$JASPER_CACHE, else `jasper-rag/embeddings` under $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("JASPER_CACHE")
    if chosen:
        return _expanded(chosen)
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jasper-rag" / "embeddings"


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:  # "~" of a user without a home
        remedy = "Set JASPER_CACHE to a folder you can write to."
        raise InputError(f"the cache folder {str(folder)!r} has no place: {error}", remedy=remedy) from error


class EmbeddingStore:
    """A folder of vectors, shared by all encoders and corpora.

    New texts are encoded longest first (so that too little memory shows at once) and written shard by shard; a kill
    loses at most the shard in the making. Processes may share a store: at worst both encode the same text. A resumed
    run forms other batches than an uninterrupted one: an encoder that treats each text by itself gives the same bits,
    a neural network on padded batches may differ in the last ones.

    Meant for corpora and question sets; each call with a new text adds a file, so encode single questions directly.

    Args:
        root: The folder; None: `default_store_root()`.
        texts_per_shard: Texts per file.
        texts_per_call: Texts handed to the encoder at a time; the progress bar moves in these steps.
    """

    def __init__(
        self, root: str | Path | None = None, *, texts_per_shard: int = 2_048, texts_per_call: int = 256
    ) -> None:
        if texts_per_shard < 1 or texts_per_call < 1:
            raise ValueError(f"need at least 1 text per shard and call, got {texts_per_shard} and {texts_per_call}.")
        self.root = default_store_root() if root is None else _expanded(root)
        self._texts_per_shard = texts_per_shard
        self._texts_per_call = texts_per_call

    def embed(self, texts: Sequence[str], encoder: Encoder, role: Role, description: str = "documents") -> Vectors:
        """Vectors of texts: those known from the store, the others encoded and stored.

        Args:
            texts: n texts; repeated ones are encoded once.
            encoder: Encodes what is missing.
            role: Which side the texts stand on.
            description: Their name in the log and on the progress bar.

        Returns:
            float32 [n, D], rows of unit length, in the order of `texts`.

        Raises:
            InputError: A text or a returned vector is unusable, a stored file was altered, or the folder holds another
                encoder's vectors.
        """
        return self.embed_with_report(texts, encoder, role, description).vectors

    def embed_with_report(
        self, texts: Sequence[str], encoder: Encoder, role: Role, description: str = "documents"
    ) -> Embedding:
        """As `embed`, with the counts of reused and encoded texts beside the vectors."""
        started = time.perf_counter()
        require_texts(texts)
        digests = _digests(texts)
        namespace = _Namespace(self.root, identity_of(encoder), role)
        first, unique = _first_rows(digests)
        missing = first[namespace.find(digests[first]) < 0]
        self._encode(namespace, encoder, texts, digests, missing, description)
        namespace.write_manifest()
        vectors = namespace.gather(namespace.find(digests))
        report = StoreReport(
            total=len(texts),
            unique=unique,
            reused=unique - len(missing),
            encoded=len(missing),
            seconds=time.perf_counter() - started,
        )
        _LOG.info("%s: %s texts, %s reused, %s encoded", description, *(f"{n:,}" for n in _counts(report)))
        return Embedding(vectors, report)

    def _encode(
        self,
        namespace: _Namespace,
        encoder: Encoder,
        texts: Sequence[str],
        digests: Digests,
        missing: NDArray[np.int64],
        description: str,
    ) -> None:
        # By content where lengths are equal, so that the order the texts came in changes nothing.
        order = sorted(missing.tolist(), key=lambda row: (-len(texts[row]), digests[row].tobytes()))
        source = f"encoder {namespace.identity.name!r}"
        with progress_bar(total=len(order), description=f"encoding {description}", unit="texts") as bar:
            for start in range(0, len(order), self._texts_per_shard):
                rows = order[start : start + self._texts_per_shard]
                parts = []
                for begin in range(0, len(rows), self._texts_per_call):
                    batch = [texts[row] for row in rows[begin : begin + self._texts_per_call]]
                    vectors = encoder.encode(batch, namespace.role)
                    parts.append(check_unit_rows(vectors, batch, namespace.identity.dimension, source))
                    bar.update(len(batch))
                namespace.add(np.concatenate(parts), digests[rows])


class _Namespace:
    """The folder of one encoder in one role."""

    def __init__(self, root: Path, identity: EncoderIdentity, role: Role) -> None:
        self.identity = identity
        self.role = role
        self.fingerprint = identity.fingerprint(role)
        self.folder = root / self.fingerprint
        self._manifest = self.folder / "manifest.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the embedding store cannot be created here: {error.strerror}.",
                path=self.folder,
                remedy="Set JASPER_CACHE to a folder you can write to.",
            ) from error
        self._check_manifest()
        paths = sorted(self.folder.glob("shard-*.safetensors"))
        self._shards = [read_shard(path, self.fingerprint, identity.dimension) for path in paths]

    def add(self, vectors: Vectors, digests: Digests) -> None:
        """Store one shard."""
        if not self._manifest.exists():
            self.write_manifest()  # first of all: a folder of shards alone does not say whose they are
        self._shards.append(write_shard(self.folder, vectors, digests, self.fingerprint))

    def find(self, digests: Digests) -> NDArray[np.int64]:
        """Row of each text, counted through the shards in order; -1: not stored."""
        stored = np.concatenate([shard.digests for shard in self._shards]) if self._shards else digests[:0]
        groups = _group_equal(np.concatenate([stored, digests]))
        position = np.full(len(groups), -1, dtype=np.int64)
        # Backwards: of a text that two processes stored, the first stays.
        position[groups[: len(stored)][::-1]] = np.arange(len(stored))[::-1]
        return position[groups[len(stored) :]]

    def gather(self, rows: NDArray[np.int64]) -> Vectors:
        """Copy rows, numbered as by `find`, out of the shards."""
        gathered = np.empty((len(rows), self.identity.dimension), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        starts = np.cumsum([0, *(len(shard.digests) for shard in self._shards)])
        cuts = np.searchsorted(rows[order], starts)
        for shard, offset, begin, end in zip(self._shards, starts[:-1], cuts[:-1], cuts[1:], strict=True):
            if begin < end:
                chosen = order[begin:end]
                gathered[chosen] = shard.vectors()[rows[chosen] - offset]
        return gathered

    def write_manifest(self) -> None:
        """Bring manifest.json up to date; untouched if it is."""
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "encoder": self.identity.to_json(),
            "role": self.role,
            "prompt": self.identity.prompt(self.role),
            "dtype": self.identity.dtype,
            "max_seq_length": self.identity.max_seq_length,
            "dimension": self.identity.dimension,
            "count": sum(len(shard.digests) for shard in self._shards),
            "shards": [
                {"file": shard.path.name, "count": len(shard.digests), "sha256": shard.sha256}
                for shard in sorted(self._shards, key=lambda shard: shard.path.name)
            ],
        }
        if not self._manifest.exists() or json.loads(self._manifest.read_text(encoding="utf-8")) != manifest:
            write_json(self._manifest, manifest)

    def _check_manifest(self) -> None:
        if not self._manifest.exists():
            return
        remedy = "Delete this manifest: it is made anew from the shards, which say themselves whose they are."
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
            version, stored = manifest["format_version"], EncoderIdentity.from_json(manifest["encoder"])
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise InputError(f"unreadable: {error}", path=self._manifest, remedy=remedy) from error
        if version != FORMAT_VERSION:
            raise InputError(
                f"format version {version}; this version reads {FORMAT_VERSION}.",
                path=self._manifest,
                remedy="Use another store (JASPER_CACHE), or delete this folder to encode anew.",
            )
        difference = self.identity.mismatch(stored, self.role)
        if difference is not None or manifest.get("role") != self.role:
            raise InputError(
                f"these vectors are of another encoder: {difference or 'another role'}",
                path=self._manifest,
                remedy="Vectors of different encoders cannot be mixed; move this folder away.",
            )


def _digests(texts: Sequence[str]) -> Digests:
    """SHA-256 of the UTF-8 bytes of each text, uint8 [n, 32]."""
    digests = np.empty((len(texts), 32), dtype=np.uint8)
    for row, text in enumerate(texts):
        digests[row] = np.frombuffer(hashlib.sha256(text.encode("utf-8")).digest(), dtype=np.uint8)
    return digests


def _group_equal(digests: Digests) -> NDArray[np.int64]:
    """A number per row, [n], equal for equal rows; exact, by sorting."""
    keys = np.ascontiguousarray(digests).view(np.uint64)
    order = np.lexsort(keys.T)
    changes = np.any(keys[order[1:]] != keys[order[:-1]], axis=1)
    groups = np.empty(len(keys), dtype=np.int64)
    groups[order] = np.concatenate([np.zeros(min(1, len(keys)), dtype=np.int64), np.cumsum(changes)])
    return groups


def _first_rows(digests: Digests) -> tuple[NDArray[np.int64], int]:
    """Row of the first occurrence of each text, and how many there are."""
    first = np.unique(_group_equal(digests), return_index=True)[1]
    return first.astype(np.int64), len(first)


def _counts(report: StoreReport) -> tuple[int, int, int]:
    return report.total, report.reused, report.encoded
