"""Relevance judgements as integer arrays: what the ranking metrics look documents up in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.errors import InputError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_logger = logging.getLogger(__name__)
_OUTSIDE_CORPUS = -2


@dataclass(frozen=True, slots=True)
class Judgements:
    """Relevance judgements of Q queries in compressed rows.

    Args:
        indptr: int64 [Q + 1]; query i owns entries `indptr[i]:indptr[i + 1]`.
        documents: int64 [n], document rows; unique within a query. -2 marks a judged document that is not in the
            corpus: it can never be found, but counts among the relevant ones as in trec_eval.
        grades: int64 [n], relevance; > 0 is relevant.

    Raises:
        ValueError: If the arrays do not fit together or a query judges a document twice.
    """

    indptr: IntArray
    documents: IntArray
    grades: IntArray

    def __post_init__(self) -> None:
        entries = len(self.documents)
        if len(self.grades) != entries:
            raise ValueError(f"judgements: {entries} documents but {len(self.grades)} grades.")
        ends = [int(self.indptr[0]), int(self.indptr[-1])] if len(self.indptr) else []
        if ends != [0, entries] or (np.diff(self.indptr) < 0).any():
            raise ValueError(f"judgements: indptr must rise from 0 to {entries}.")
        query = self._query_of_entry()
        inside = self.documents >= 0
        order = np.lexsort((self.documents[inside], query[inside]))
        pairs = np.stack([query[inside][order], self.documents[inside][order]])
        repeated = (np.diff(pairs, axis=1) == 0).all(axis=0)
        if repeated.any():
            first = int(np.flatnonzero(repeated)[0])
            raise ValueError(f"judgements: query {pairs[0, first]} judges document {pairs[1, first]} twice.")

    @classmethod
    def from_qrels(
        cls,
        qrels: Mapping[str, Mapping[str, int]],
        query_ids: Sequence[str],
        document_rows: Mapping[str, int],
    ) -> Judgements:
        """Judgements of `query_ids`, in that order.

        A query without qrels gets no judgements (and scores 0); qrels of other queries are left out.

        Args:
            qrels: Query id -> document id -> relevance.
            query_ids: The Q queries.
            document_rows: Document id -> row in the corpus. Judged documents that are missing here still count as
                relevant documents that were not found; their number is logged.

        Raises:
            InputError: If none of the judged documents is in the corpus.
        """
        judged = [qrels.get(query_id, {}) for query_id in query_ids]
        indptr = np.cumsum([0, *(len(by_document) for by_document in judged)], dtype=np.int64)
        documents = np.array(
            [document_rows.get(document_id, _OUTSIDE_CORPUS) for by_document in judged for document_id in by_document],
            dtype=np.int64,
        )
        grades = np.array([grade for by_document in judged for grade in by_document.values()], dtype=np.int64)
        outside = int((documents == _OUTSIDE_CORPUS).sum())
        if outside and outside == len(documents):
            example = next(document_id for by_document in judged for document_id in by_document)
            raise InputError(
                f"none of the {outside} judged documents is in the corpus, e.g. {example!r}",
                remedy="Check that qrels and corpus come from the same set and spell document ids alike.",
            )
        if outside:
            _logger.warning(
                "%d of %d judged documents are not in the corpus; they count as not found.", outside, len(documents)
            )
        return cls(indptr, documents, grades)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def positives(self, query: int) -> IntArray:
        """Rows of the relevant documents of one query that are in the corpus, int64 [p]."""
        entries = slice(self.indptr[query], self.indptr[query + 1])
        documents = self.documents[entries]
        return documents[(self.grades[entries] > 0) & (documents >= 0)]

    def select(self, rows: Sequence[int] | IntArray) -> Judgements:
        """The judgements of some queries, in the order of `rows` (int [q])."""
        rows = np.asarray(rows, dtype=np.int64)
        counts = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][rows] - indptr[:-1], counts)
        return Judgements(indptr, self.documents[entries], self.grades[entries])

    def relevant_counts(self) -> IntArray:
        """Number of relevant documents of each query, int64 [Q], those outside the corpus included."""
        query = self._query_of_entry()[self.grades > 0]
        return np.bincount(query, minlength=len(self)).astype(np.int64)

    def gains(self, ranked: IntArray, k: int) -> FloatArray:
        """Grades of each query's first k documents, float64 [Q, min(k, K)].

        0 for a document that is unjudged, graded below 1, a repeat of an earlier one, or missing (a negative row).

        Args:
            ranked: int64 [Q, K] document rows, best first.
            k: Cut-off, at least 1.

        Raises:
            ValueError: If `ranked` is not an integer array with one row per query, or k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        if ranked.ndim != 2 or not np.issubdtype(ranked.dtype, np.integer):
            raise ValueError(f"ranked must be integer document rows [Q, K], got {ranked.dtype} {list(ranked.shape)}.")
        if len(ranked) != len(self):
            raise ValueError(f"ranked has {len(ranked)} rows, but there are judgements for {len(self)} queries.")
        ranked = ranked[:, :k]
        # One number per (query, document) pair, so that a single binary search answers every lookup.
        stride = 1 + max(int(self.documents.max(initial=0)), int(ranked.max(initial=0)))
        inside = (self.documents >= 0) & (self.grades > 0)
        known = self._query_of_entry()[inside] * stride + self.documents[inside]
        order = np.argsort(known)
        known, grades = known[order], self.grades[inside][order]
        if len(known) == 0:
            return np.zeros(ranked.shape, dtype=np.float64)
        asked = np.arange(len(self), dtype=np.int64)[:, None] * stride + ranked
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        hit = (known[place] == asked) & (ranked >= 0) & ~_repeats(ranked)
        return np.where(hit, grades[place], 0).astype(np.float64)

    def followed_by(self, other: Judgements) -> Judgements:
        """The judgements of these queries, then of `other`'s; both of one corpus."""
        return Judgements(
            np.concatenate([self.indptr, other.indptr[1:] + self.indptr[-1]]),
            np.concatenate([self.documents, other.documents]),
            np.concatenate([self.grades, other.grades]),
        )

    def _query_of_entry(self) -> IntArray:
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))


def _repeats(ranked: IntArray) -> NDArray[np.bool_]:
    """True where a row's document already stood further left, bool [Q, K]."""
    order = np.argsort(ranked, axis=1, kind="stable")
    ordered = np.take_along_axis(ranked, order, axis=1)
    repeated = np.zeros(ranked.shape, dtype=np.bool_)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated
