"""GaussianRetriever: documents in, the nearest out by L2 distance between Gaussian embeddings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.retrieval.distance_index import Backend, DistanceIndex
from jasper_rag.retrieval.gaussian_files import read_gaussian_index, write_gaussian_index
from jasper_rag.retrieval.stored_documents import StoredDocument, checked_metadata, new_ids, require_filled

_LOG = logging.getLogger(__name__)

_DEFAULT_DIMENSION = 512
_QUERY_BATCH = 32


@dataclass(frozen=True, slots=True)
class GaussianHit:
    """A document that was found.

    Args:
        id: As given to `add_documents`.
        text: The document.
        metadata: As given to `add_documents`; empty where there was none.
        distance: L2 distance to the query, not squared: smaller is nearer.
    """

    id: str
    text: str
    metadata: Mapping[str, Any]
    distance: float


class GaussianRetriever:
    """Exact search by the L2 distance between Gaussian embeddings; documents come and go.

    Queries pass through the model's predictor, where it was trained with one. Searching is safe from several threads
    at once; adding and deleting beside a search is not.

    Args:
        model_path: Checkpoint of a training run, which says all it takes to load it. None: the base model as it is,
            with a head that is the identity.
        embedding_dim: Expected length of an embedding. None: the checkpoint's own, or 512 without a checkpoint.
        use_gpu: Encode and search on a GPU; without one a warning is logged and the CPU does it.
        base_model: Where the base model lies, if not where the checkpoint says; it must be the same one. Without a
            checkpoint its name; None then: $JASPER_BASE_MODEL, else google/embeddinggemma-300m.
        device: Where to compute, in place of `use_gpu`: "cpu", "cuda:1", "mps".
        backend: What searches: "numpy", "torch" or "faiss"; distances are the same. None: numpy, torch on a GPU.
        offline: Never contact a model hub.

    Raises:
        InputError: Checkpoint or base model cannot be had, or its dimension is another one.
    """

    def __init__(
        self,
        model_path: str | Path | None = None,
        embedding_dim: int | None = None,
        use_gpu: bool = False,
        *,
        base_model: str | None = None,
        device: str | None = None,
        backend: Backend | None = None,
        offline: bool = False,
    ) -> None:
        chosen = device or _device(use_gpu)
        if model_path is not None:
            model = GaussianEmbeddingGemma.from_pretrained(
                model_path, base_model, chosen, output_dim=embedding_dim, offline=offline
            )
        else:
            width = _DEFAULT_DIMENSION if embedding_dim is None else embedding_dim
            model = GaussianEmbeddingGemma(width, base_model, freeze_base=True, device=chosen, offline=offline)
        self._use(model, backend)

    @classmethod
    def from_model(cls, model: GaussianEmbeddingGemma, backend: Backend | None = None) -> GaussianRetriever:
        """A retriever with a model that is loaded already; do not train it as long as documents are in here."""
        retriever = cls.__new__(cls)
        retriever._use(model, backend)
        return retriever

    def _use(self, model: GaussianEmbeddingGemma, backend: Backend | None) -> None:
        self.model = model.eval()
        self.embedding_dim: int = model.output_dim
        self._identity: EncoderIdentity = model.encoder().identity()
        self._backend: Backend = backend or ("numpy" if model.device.type == "cpu" else "torch")
        self.clear()

    def __len__(self) -> int:
        """Documents that can be found."""
        return len(self._rows)

    @property
    def ids(self) -> list[str]:
        """Ids of the documents, in the order in which they were added."""
        return list(self._rows)

    def add_documents(
        self,
        documents: Sequence[str],
        batch_size: int = 32,
        *,
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Add documents; only they are embedded. All are added or, after an error, none.

        Args:
            documents: m texts.
            batch_size: Texts per forward pass.
            ids: One per document, unique; None: running numbers.
            metadata: One mapping per document that JSON can hold.

        Returns:
            The m ids.

        Raises:
            InputError: A text is blank or no text, an id is taken, counts differ, or metadata is not JSON.
        """
        require_filled(documents, "document", "documents")
        names = new_ids(ids, len(documents), self._rows, self._index.next_row)
        kept = checked_metadata(metadata, len(documents))
        if batch_size < 1:
            raise InputError(f"a batch of {batch_size} texts.", field="batch_size", remedy="Give 1 or more.")
        if not documents:
            return []
        vectors = self.model.encode(documents, batch_size, convert_to_numpy=True, role="document")
        stored = [StoredDocument(*row) for row in zip(names, documents, kept, strict=True)]
        self._keep(vectors, stored)
        return names

    def retrieve(self, query: str, top_k: int = 5) -> list[tuple[str, float]]:
        """The nearest documents of one query.

        Args:
            query: A text.
            top_k: How many; fewer documents give fewer, and 0 or less none.

        Returns:
            [(text, distance)], nearest first; the distance is L2, not squared.

        Raises:
            InputError: The query is blank or no text.
        """
        if not isinstance(query, str):
            raise InputError(f"the query is {query!r}; expected a text.", remedy="Several: retrieve_batch(queries).")
        return self.retrieve_batch([query], top_k)[0]

    def retrieve_batch(self, queries: Sequence[str], top_k: int = 5) -> list[list[tuple[str, float]]]:
        """`retrieve` for many queries in one pass."""
        return [[(hit.text, hit.distance) for hit in hits] for hits in self.search(queries, top_k)]

    def search(self, queries: Sequence[str], top_k: int = 5) -> list[list[GaussianHit]]:
        """The nearest documents of each query with ids and metadata, nearest first, ties by the earlier added.

        Args:
            queries: Q texts.
            top_k: How many; fewer documents give fewer, and 0 or less none.

        Raises:
            InputError: A query is blank or no text.
        """
        require_filled(queries, "query", "queries")
        if top_k < 1 or not len(self) or not queries:
            return [[] for _ in queries]
        distances, rows = self._index.search(self._embed_queries(queries), top_k)
        return [
            [self._hit(row, distance) for row, distance in zip(found, far, strict=True)]
            for found, far in zip(rows.tolist(), distances.tolist(), strict=True)
        ]

    def delete(self, ids: Iterable[str] | str) -> None:
        """Delete documents by id.

        Raises:
            InputError: There is no document of that id; none is deleted then.
        """
        names = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
        unknown = [name for name in names if name not in self._rows]
        if unknown:
            problem = f"there is no document {unknown[0]!r}."
            raise InputError(problem, field="ids", remedy="The property `ids` lists those there are.")
        rows = [self._rows[name] for name in names]
        self._index.remove(rows)
        for name, row in zip(names, rows, strict=True):
            del self._rows[name], self._stored[row]

    def clear(self) -> None:
        """Delete all documents."""
        self._index = DistanceIndex(self.embedding_dim, self._backend, str(self.model.device))
        self._rows: dict[str, int] = {}
        self._stored: dict[int, StoredDocument] = {}

    def save_index(self, path: str | Path) -> None:
        """Write documents and vectors into the folder `path`: safetensors, JSONL, and a description with checksums.

        An index that is there already stays whole until the new one is complete, whatever ends the process. The model
        is not part of it.

        Raises:
            InputError: `path` holds something else, which would be lost.
        """
        documents = [self._stored[row] for row in self._rows.values()]
        write_gaussian_index(path, self._identity, self._index.vectors, documents)

    def load_index(self, path: str | Path) -> None:
        """Read what `save_index` wrote, in place of the documents at hand.

        Raises:
            InputError: No index, a damaged one, or one of another model; nothing changes then.
        """
        identity, vectors, documents = read_gaussian_index(path)
        difference = identity.mismatch(self._identity, "document")
        if difference is not None or vectors.shape[1] != self.embedding_dim:
            found = difference or f"{vectors.shape[1]} dimensions, the model has {self.embedding_dim}."
            remedy = "Load it with the model it was built with, or add the documents anew."
            raise InputError(f"was built with another model: {found}", path=path, remedy=remedy)
        self.clear()
        self._keep(vectors, documents)

    def _keep(self, vectors: NDArray[np.float32], documents: Sequence[StoredDocument]) -> None:
        for row, document in zip(self._index.add(vectors).tolist(), documents, strict=True):
            self._rows[document.id], self._stored[row] = row, document

    def _hit(self, row: int, distance: float) -> GaussianHit:
        document = self._stored[row]
        return GaussianHit(document.id, document.text, document.metadata, distance)

    @torch.no_grad()
    def _embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        embeddings = self.model.encode(queries, _QUERY_BATCH, role="query")
        predicted: NDArray[np.float32] = self.model.predict_query(embeddings).numpy()
        return predicted


def _device(use_gpu: bool) -> str:
    if not use_gpu:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    _LOG.warning("use_gpu: there is no GPU here; the CPU does it")
    return "cpu"
