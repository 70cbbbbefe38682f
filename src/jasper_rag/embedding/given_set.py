"""Vectors and judgements that a user brings, put together as one set; texts may be absent."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vector_sources import GivenVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet
from jasper_rag.text.splitting import ensure_splits

logger = logging.getLogger(__name__)

_BLOCK = 4096
"""Rows copied at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenSet:
    """Documents, queries and judgements with vectors from outside.

    Args:
        name: Of the set.
        retrieval_set: N documents and Q queries; texts are "" where only vectors were given.
        document_vectors: float32 [N, D], in the order of the documents.
        query_vectors: float32 [Q, D], in the order of the queries.
    """

    name: str
    retrieval_set: RetrievalSet
    document_vectors: Vectors
    query_vectors: Vectors

    def vectors_of(self, query_ids: Sequence[str]) -> Vectors:
        """Vectors of some queries, float32 [q, D], in this order."""
        rows = {query.id: row for row, query in enumerate(self.retrieval_set.queries)}
        return self.query_vectors[[rows[query_id] for query_id in query_ids]]

    def split(self, seed: int) -> GivenSet:
        """Return the set with train, dev and test: `jasper_rag.text.splitting.ensure_splits`.

        Where there is no text, equal vectors are what equal texts are otherwise: they stay in one split.

        Raises:
            InputError: There are no judged questions, too few of them, or other splits.
        """
        mine = self.retrieval_set
        of_document, of_query = vector_groups(self.document_vectors), vector_groups(self.query_vectors)
        documents = [
            document if document.content.strip() else Document(document.id, f"vector {group}")
            for document, group in zip(mine.documents, of_document, strict=True)
        ]
        queries = [
            query if query.text.strip() else Query(query.id, f"vector {group}")
            for query, group in zip(mine.queries, of_query, strict=True)
        ]
        stand_in = replace(mine, documents=tuple(documents), queries=tuple(queries))
        return replace(self, retrieval_set=replace(mine, qrels=ensure_splits(stand_in, seed).qrels))


def given_set(
    documents: GivenVectors,
    queries: GivenVectors,
    qrels: Mapping[str, Qrels],
    name: str,
    texts: RetrievalSet | None = None,
) -> GivenSet:
    """Put vectors, judgements and, if there are any, texts together.

    Args:
        documents: N vectors.
        queries: Q vectors of the same width.
        qrels: Split -> judgements; `read_judgements` with `queries.known` and `documents.known` names the lines of
            unknown ids.
        name: Of the set.
        texts: The documents and queries that the ids stand for; its judgements do not count. Further ones are left out.

    Raises:
        InputError: The widths differ, a judgement names a query or document without a vector, or `texts` lacks one.
    """
    width, other = documents.vectors.shape[1], queries.vectors.shape[1]
    if width != other:
        raise InputError(
            f"document vectors have {width} dimensions, query vectors {other}.",
            remedy="Encode both with one model.",
            field=f"{documents.source}, {queries.source}",
        )
    _require_vectors(qrels, documents, queries)
    text = {document.id: document for document in texts.documents} if texts else {}
    question = {query.id: query for query in texts.queries} if texts else {}
    if texts:
        _require_texts(documents, text, "document", texts.name)
        _require_texts(queries, question, "query", texts.name)
    retrieval_set = RetrievalSet(
        name,
        tuple(text.get(identifier) or Document(identifier, "") for identifier in documents.ids),
        tuple(question.get(identifier) or Query(identifier, "") for identifier in queries.ids),
        qrels,
    )
    return GivenSet(name, retrieval_set, documents.vectors, queries.vectors)


def vector_groups(vectors: Vectors) -> NDArray[np.int64]:
    """For each vector the row of the first one equal to it in every number, int64 [N].

    What `jasper_rag.embedding.embedded_set.text_groups` is where there are texts: equal vectors are one source.

    Args:
        vectors: float32 [N, D].
    """
    groups = np.empty(len(vectors), dtype=np.int64)
    first: dict[bytes, int] = {}
    for start in range(0, len(vectors), _BLOCK):
        # -0 equals 0 but has other bytes; -0 + 0 is 0.
        block = np.ascontiguousarray(vectors[start : start + _BLOCK]) + np.float32(0)
        for row, vector in enumerate(block, start):
            groups[row] = first.setdefault(hashlib.blake2b(vector.data, digest_size=16).digest(), row)
    return groups


def _require_vectors(qrels: Mapping[str, Qrels], documents: GivenVectors, queries: GivenVectors) -> None:
    known_documents, known_queries = documents.known, queries.known
    for split, judgements in qrels.items():
        for query, judged in judgements.items():
            if query not in known_queries.ids:
                raise _unknown(f"query {query!r}", split, known_queries.place)
            for document in judged:
                if document not in known_documents.ids:
                    raise _unknown(f"document {document!r} of query {query!r}", split, known_documents.place)


def _unknown(what: str, split: str, place: str) -> InputError:
    return InputError(
        f"split {split!r} judges {what}, which has no vector.",
        remedy=f"Its id is not in {place}. Add a vector, drop the judgement, or spell ids alike.",
        field="qrels",
    )


def _require_texts(vectors: GivenVectors, known: Mapping[str, object], what: str, name: str) -> None:
    lacking = [identifier for identifier in vectors.ids if identifier not in known]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(vectors.ids)} {what} vectors have no text in {name}; the first is {lacking[0]!r}.",
            remedy="Give the texts that the vectors were made from, or none.",
            field=vectors.source,
        )
    left = len(known) - len(vectors.ids)
    if left:
        logger.warning("%s: %d texts have no %s vector and are left out", name, left, what)
