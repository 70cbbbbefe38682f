"""A retrieval set in numbers: document vectors, and per split the query vectors with their judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.embedding_store import EmbeddingStore, StoreReport
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.leakage import normalised
from jasper_rag.text.records import Document, RetrievalSet


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


@dataclass(frozen=True, slots=True)
class EmbeddedSet:
    """Documents and queries as vectors.

    Args:
        name: Of the retrieval set.
        documents: The N documents.
        vectors: float32 [N, D], unit rows; never changed by training.
        splits: Split name -> its queries.
        text_group: int64 [N], row of the first document with the same normalised content: equal texts are one source.
        reports: What was encoded and what was reused, by role.
    """

    name: str
    documents: tuple[Document, ...]
    vectors: Vectors
    splits: Mapping[str, EmbeddedQueries]
    text_group: NDArray[np.int64]
    reports: Mapping[str, StoreReport]


def embed_set(retrieval_set: RetrievalSet, encoder: Encoder, store: EmbeddingStore) -> EmbeddedSet:
    """Embed every document and every judged query of `retrieval_set` through the store.

    Queries without a relevant document in their split are left out: nothing can be learnt or measured from them.

    Raises:
        InputError: From the encoder or the store.
    """
    documents = retrieval_set.documents
    document_embedding = store.embed_with_report([d.content for d in documents], encoder, "document", "documents")
    text_by_id = {query.id: query.text for query in retrieval_set.queries}
    judged = {
        split: [query_id for query_id, grades in qrels.items() if any(grade > 0 for grade in grades.values())]
        for split, qrels in retrieval_set.qrels.items()
    }
    all_ids = [query_id for ids in judged.values() for query_id in ids]
    query_embedding = store.embed_with_report([text_by_id[i] for i in all_ids], encoder, "query", "questions")
    document_rows = {document.id: row for row, document in enumerate(documents)}
    splits: dict[str, EmbeddedQueries] = {}
    start = 0
    for split, ids in judged.items():
        splits[split] = EmbeddedQueries(
            ids=tuple(ids),
            texts=tuple(text_by_id[i] for i in ids),
            vectors=query_embedding.vectors[start : start + len(ids)],
            judgements=Judgements.from_qrels(retrieval_set.qrels[split], ids, document_rows),
        )
        start += len(ids)
    return EmbeddedSet(
        name=retrieval_set.name,
        documents=documents,
        vectors=document_embedding.vectors,
        splits=splits,
        text_group=text_groups(documents),
        reports={"document": document_embedding.report, "query": query_embedding.report},
    )


def text_groups(documents: Sequence[Document]) -> NDArray[np.int64]:
    """For each document the row of the first one with the same normalised content, int64 [N]."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(normalised(document.content), row) for row, document in enumerate(documents)], dtype=np.int64
    )
