"""A retrieval set in numbers: document vectors, and per split the query vectors with their judgements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedding_store import Embedding, EmbeddingStore, StoreReport
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.chunking import chunk_document
from jasper_rag.text.chunking_config import ChunkingConfig
from jasper_rag.text.leakage import text_key
from jasper_rag.text.records import Document, Qrels, RetrievalSet


@dataclass(frozen=True, slots=True)
class EmbeddedQueries:
    """The queries of one split.

    Args:
        ids: The Q query ids.
        texts: The Q texts.
        vectors: float32 [Q, D], unit rows.
        judgements: Of these queries, in this order; rows point into the set's documents.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Vectors
    judgements: Judgements

    def __len__(self) -> int:
        return len(self.ids)

    def followed_by(self, other: EmbeddedQueries) -> EmbeddedQueries:
        """These queries, then those of `other`."""
        return EmbeddedQueries(
            self.ids + other.ids,
            self.texts + other.texts,
            np.concatenate([self.vectors, other.vectors]),
            self.judgements.followed_by(other.judgements),
        )


@dataclass(frozen=True, slots=True)
class EmbeddedSet:
    """Documents and queries as vectors.

    Args:
        name: Of the retrieval set.
        documents: The N documents.
        vectors: Of the N documents; never changed by training.
        splits: Split name -> its queries.
        text_group: int64 [N], row of the first document with the same normalised content: equal texts are one source.
        reports: What was encoded and what was reused, by role.
    """

    name: str
    documents: tuple[Document, ...]
    vectors: DocumentVectors
    splits: Mapping[str, EmbeddedQueries]
    text_group: NDArray[np.int64]
    reports: Mapping[str, StoreReport]


def embed_set(
    retrieval_set: RetrievalSet, encoder: Encoder, store: EmbeddingStore, chunking: ChunkingConfig | None = None
) -> EmbeddedSet:
    """Embed every document and every judged query of `retrieval_set` through the store.

    Queries without a relevant document in their split are left out: nothing can be learnt or measured from them.

    Raises:
        InputError: From the encoder or the store.
    """
    documents = retrieval_set.documents
    vectors, document_report = embed_documents(documents, encoder, store, chunking)
    text_by_id = {query.id: query.text for query in retrieval_set.queries}
    ids = [query_id for qrels in retrieval_set.qrels.values() for query_id in answered(qrels)]
    embedding = store.embed_with_report([text_by_id[query_id] for query_id in ids], encoder, "query", "questions")
    return EmbeddedSet(
        name=retrieval_set.name,
        documents=documents,
        vectors=vectors,
        splits=judged_splits(retrieval_set, embedding.vectors),
        text_group=text_groups(documents),
        reports={"document": document_report, "query": embedding.report},
    )


def embed_documents(
    documents: Sequence[Document], encoder: Encoder, store: EmbeddingStore, chunking: ChunkingConfig | None = None
) -> tuple[DocumentVectors, StoreReport]:
    """Embed documents whole or, with `chunking`, passage by passage; every passage brings its document's title.

    Raises:
        InputError: From the encoder or the store.
    """

    def embedded(texts: Sequence[str], what: str) -> Embedding:
        return store.embed_with_report(texts, encoder, "document", what)

    if chunking is None or chunking.how == "none" or not documents:
        whole = embedded([document.content for document in documents], "documents")
        return DocumentVectors(whole.vectors), whole.report
    count: Callable[[str], int] | None = getattr(encoder, "count_tokens", None)
    texts: list[str] = []
    starts, spans = [], []
    for document in documents:
        starts.append(len(texts))
        for chunk in chunk_document(document, chunking.how, chunking.size, chunking.overlap, count):
            texts.append(Document(document.id, chunk.text.strip() or chunk.text, document.title).content)
            spans.append((chunk.start, chunk.end))
    passages = embedded(texts, "passages")
    places = Passages(np.array(starts, dtype=np.int64), np.array(spans, dtype=np.int64))
    return DocumentVectors(passages.vectors, places), passages.report


def judged_splits(retrieval_set: RetrievalSet, vectors: Vectors) -> dict[str, EmbeddedQueries]:
    """The splits of `retrieval_set` with the vectors of their `answered` queries, split by split: float32 [Q, D]."""
    text_by_id = {query.id: query.text for query in retrieval_set.queries}
    document_rows = {document.id: row for row, document in enumerate(retrieval_set.documents)}
    splits: dict[str, EmbeddedQueries] = {}
    start = 0
    for split, qrels in retrieval_set.qrels.items():
        ids = answered(qrels)
        splits[split] = EmbeddedQueries(
            ids=tuple(ids),
            texts=tuple(text_by_id[query_id] for query_id in ids),
            vectors=vectors[start : start + len(ids)],
            judgements=Judgements.from_qrels(qrels, ids, document_rows),
        )
        start += len(ids)
    return splits


def answered(qrels: Qrels) -> list[str]:
    """Ids of the queries that have a relevant document."""
    return [query_id for query_id, grades in qrels.items() if any(grade > 0 for grade in grades.values())]


def text_groups(documents: Sequence[Document]) -> NDArray[np.int64]:
    """For each document the row of the first one with the same normalised content, int64 [N]."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(text_key(document.content, document.id), row) for row, document in enumerate(documents)],
        dtype=np.int64,
    )
