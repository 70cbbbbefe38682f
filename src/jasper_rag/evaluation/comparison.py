"""One table per data set: the plain encoder, BM25, their fusions, a peer's adapter, and JASPER, on the same queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.evaluation.verdict import verdict
from jasper_rag.metrics.ranking import FloatArray, IntArray, lexicographic_ranks, order_run, per_query
from jasper_rag.metrics.significance import bootstrap_interval, paired_randomisation
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.retrieval.fusion import DEFAULT_WEIGHT, choose_weight, reciprocal_rank_fusion, score_blocks
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever

DEPTH = 100
"""Documents kept per query: what run files hold and rank fusion sees."""

KS: dict[str, tuple[int, ...]] = {"ndcg": (10,), "recall": (10,), "mrr": (10,)}


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """The query vectors of one split, by system.

    Args:
        plain: float32 [Q, D], the question alone.
        ungated: Blended by the global alpha.
        shipped: Blended and gated.
        adapter: From the linear adapter; None where none was trained.
    """

    plain: Vectors
    ungated: Vectors
    shipped: Vectors
    adapter: Vectors | None = None


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """BM25's share beside the plain encoder and beside JASPER, chosen on dev."""

    plain: float
    jasper: float

    def over(self, openness: float) -> FusionWeights:
        """The weights for a corpus with this openness (`CorpusGate`): the less, the nearer to `DEFAULT_WEIGHT`."""
        rest = (1.0 - openness) * DEFAULT_WEIGHT
        return FusionWeights(openness * self.plain + rest, openness * self.jasper + rest)


@dataclass(frozen=True, slots=True)
class SystemRun:
    """Ranked documents of one system: scores [Q, K], rows [Q, K] (-1 pads), metric -> per-query values [Q]."""

    scores: FloatMatrix
    rows: RowMatrix
    values: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every system on one split.

    Args:
        dataset: Name of the retrieval set.
        split: Split compared on.
        seed: Of the resampling.
        runs: System key -> its run, in table order.
        train_seconds: System key -> CPU seconds of training, where there was any.
        alpha: The guard's blend.
        weights: The fusion weights.
        openness: Of the corpus gate; 0 over a corpus unlike the one trained on, where the plain encoder serves.
        documents: Size of the corpus.
        unseen: bool [Q], True where none of a question's sources was a train source; a question about a source that
            training has seen is easier.
    """

    dataset: str
    split: str
    seed: int
    runs: Mapping[str, SystemRun]
    train_seconds: Mapping[str, float]
    alpha: float
    weights: FusionWeights
    openness: float
    documents: int
    unseen: NDArray[np.bool_]

    @property
    def default(self) -> str:
        """Key of the system that a search uses: with BM25 wherever the documents have text."""
        return "hybrid" if "hybrid" in self.runs else "jasper"

    def to_metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`; p-values are two-sided paired randomisation against the plain encoder."""
        plain = self.runs["plain"].values["ndcg@10"]
        systems: dict[str, dict[str, float | None]] = {}
        for key, run in self.runs.items():
            values = run.values["ndcg@10"]
            low, high = bootstrap_interval(values, self.seed)
            systems[key] = {
                **{metric: float(per_query_values.mean()) for metric, per_query_values in run.values.items()},
                "train_seconds": self.train_seconds.get(key, 0.0),
                "ndcg@10_low": low,
                "ndcg@10_high": high,
                "p_value": None if key == "plain" else paired_randomisation(values, plain, self.seed),
            }
        p_value = systems["jasper"]["p_value"]
        return {
            "dataset": self.dataset,
            "split": self.split,
            "seed": self.seed,
            "questions": len(plain),
            "documents": self.documents,
            "systems": systems,
            "alpha": self.alpha,
            "corpus_openness": self.openness,
            "fusion_weight": self.weights.jasper,
            "fusion_weight_plain": self.weights.plain,
            "p_value": p_value,
            "unseen_sources": self._on_unseen_sources(),
            "verdict": verdict(systems, self.alpha, len(plain), self.openness),
        }

    def _on_unseen_sources(self) -> dict[str, Any]:
        questions = int(self.unseen.sum())
        if not questions:
            return {"questions": 0, "ndcg@10": {}}
        means = {key: float(run.values["ndcg@10"][self.unseen].mean()) for key, run in self.runs.items()}
        return {"questions": questions, "ndcg@10": means}


def choose_fusion_weights(
    dev: EmbeddedQueries, vectors: QueryVectors, documents: DocumentVectors, lexical: LexicalIndex | None
) -> FusionWeights:
    """BM25's weight beside the plain and beside the shipped query vectors, by nDCG@10 on dev; 0 and 1 are tried."""
    if lexical is None:
        return FusionWeights(0.0, 0.0)

    def best(queries: Vectors) -> float:
        return choose_weight(score_blocks(queries, documents, lexical, dev.texts), dev.judgements).weight

    return FusionWeights(plain=best(vectors.plain), jasper=best(vectors.shipped))


def compare(
    *,
    dataset: str,
    split: str,
    queries: EmbeddedQueries,
    vectors: QueryVectors,
    documents: DocumentVectors,
    document_ids: Sequence[str],
    lexical: LexicalIndex | None,
    weights: FusionWeights,
    alpha: float,
    openness: float = 1.0,
    train_seconds: Mapping[str, float],
    train_sources: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Comparison:
    """Run every system on `queries`.

    Args:
        dataset: Name shown.
        split: Name of the split the queries come from.
        queries: Texts and judgements, Q of them.
        vectors: Query vectors of the dense systems.
        documents: Of the N documents.
        document_ids: The N ids; equal scores are ordered by them as trec_eval does.
        lexical: BM25 over the same documents; None, where they have no text, leaves its systems out.
        weights: From dev.
        alpha: The guard's blend, for the record.
        openness: Of the corpus gate, for the record.
        train_seconds: System key -> CPU seconds.
        train_sources: Rows of the documents that train questions ask for; None where training saw another corpus.
        seed: Of intervals and tests.
    """
    ranks = lexicographic_ranks(document_ids)
    searched = _search_all(queries, vectors, documents, lexical, weights)
    runs = {key: _run(scores, rows, queries, ranks) for key, (scores, rows) in searched}
    unseen = _unseen(queries, np.empty(0, dtype=np.int64) if train_sources is None else train_sources)
    return Comparison(dataset, split, seed, runs, dict(train_seconds), alpha, weights, openness, len(documents), unseen)


def _unseen(queries: EmbeddedQueries, train_sources: NDArray[np.int64]) -> NDArray[np.bool_]:
    judgements = queries.judgements
    # Below 0 stands a document outside the corpus; two of them need not be the same.
    relevant = (judgements.grades > 0) & (judgements.documents >= 0)
    seen = relevant & np.isin(judgements.documents, train_sources)
    question_of_entry = np.repeat(np.arange(len(queries)), np.diff(judgements.indptr))
    unseen: NDArray[np.bool_] = np.bincount(question_of_entry[seen], minlength=len(queries)) == 0
    return unseen


def _search_all(
    queries: EmbeddedQueries,
    vectors: QueryVectors,
    documents: DocumentVectors,
    lexical: LexicalIndex | None,
    weights: FusionWeights,
) -> Iterator[tuple[str, tuple[FloatMatrix, RowMatrix]]]:
    beside_plain = HybridRetriever(documents, lexical, weights.plain)
    beside_jasper = HybridRetriever(documents, lexical, weights.jasper)
    plain = beside_plain.dense(vectors.plain, DEPTH)
    shipped = beside_jasper.dense(vectors.shipped, DEPTH)
    bm25 = None if lexical is None else lexical.search(queries.texts, DEPTH)
    yield "plain", plain
    if bm25 is not None:
        yield "bm25", bm25
        yield "rrf", reciprocal_rank_fusion([plain[1], bm25[1]], DEPTH)
        yield "fusion", beside_plain.hybrid(vectors.plain, queries.texts, DEPTH)
    if vectors.adapter is not None:
        yield "linear_adapter", beside_plain.dense(vectors.adapter, DEPTH)
    yield "jasper_ungated", beside_jasper.dense(vectors.ungated, DEPTH)
    yield "jasper", shipped
    if bm25 is not None:
        yield "rrf_jasper", reciprocal_rank_fusion([shipped[1], bm25[1]], DEPTH)
        yield "hybrid", beside_jasper.hybrid(vectors.shipped, queries.texts, DEPTH)


def _run(scores: FloatMatrix, rows: RowMatrix, queries: EmbeddedQueries, ranks: IntArray) -> SystemRun:
    ranked = np.asarray(order_run(scores, rows, ranks))
    return SystemRun(scores, ranked, per_query(ranked, queries.judgements, KS))
