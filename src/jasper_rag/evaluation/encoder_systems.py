"""An encoder beside what it has to beat: its base model as it is, centred and whitened, BM25, and rank fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.evaluation.encoder_task import EncoderTask
from jasper_rag.metrics import geometry
from jasper_rag.metrics.ranking import FloatArray, lexicographic_ranks, order_run, per_query
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.retrieval.distance_index import DistanceIndex
from jasper_rag.retrieval.fusion import reciprocal_rank_fusion
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.training.cached_base import base_vectors

ENCODER_SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "model": "this model (L2)",
        "base": "its base model (cosine)",
        "bm25": "BM25",
        "rrf": "RRF: this model + BM25",
        "centred_base": "base, centred",
        "whitened_base": "base, whitened",
    }
)
"""System key -> what people read, in the order of every table."""

RECALL_KS = (1, 5, 10, 20, 50, 100)
DEPTH = 100
"""Documents ranked per query at least: what Recall@100 and MAP@100 count in."""

_SAMPLE = 4096
"""Documents that geometry is measured on at most: it takes all pairs."""

_NEGLIGIBLE = 1e-6
"""Share of the largest variance below which a direction is noise and not whitened."""


@dataclass(frozen=True, slots=True)
class VectorPair:
    """Vectors of one space: documents [N, d], queries [Q, d]."""

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """One system's ranking: scores [Q, K] and rows [Q, K] (-1 pads), and each metric query by query."""

    scores: FloatMatrix
    rows: RowMatrix
    values: Mapping[str, FloatArray]


def embedded(
    model: GaussianEmbeddingGemma, task: EncoderTask, batch_size: int, store: EmbeddingStore | None
) -> tuple[VectorPair, VectorPair]:
    """Vectors of the model, queries through its predictor, and unit vectors of the base it started from.

    Args:
        model: In evaluation mode.
        task: Whose texts.
        batch_size: Texts per forward pass, where the store has none.
        store: Keeps the vectors of a base that never moved; None: nothing is kept.
    """
    if not model.base_is_original:
        rows = [model.encode(texts, batch_size, True, role=role) for texts, role in _texts(task)]
        return _pair(rows, model), _original_base(model, task, batch_size, store)
    features = [base_vectors(model, texts, role, store=store) for texts, role in _texts(task)]
    with torch.no_grad():
        projected = [model.project(part.to(model.device)).float().cpu() for part in features]
    base = VectorPair(_unit(features[0].numpy()), _unit(features[1].numpy()))
    return _pair(projected, model), base


def encoder_runs(
    model: VectorPair, base: VectorPair, task: EncoderTask, depth: int, language: str = "english"
) -> dict[str, EncoderRun]:
    """Every system on the task, in the order of `ENCODER_SYSTEMS`.

    Args:
        model: Vectors to be compared by L2.
        base: Unit vectors.
        task: Its texts are what BM25 reads.
        depth: Documents ranked per query, at least `DEPTH`; MRR counts in all of them.
        language: Of BM25's stemmer.
    """
    cuts = {"recall": RECALL_KS, "mrr": (depth,), "ndcg": (10,), "map": (100,)}
    ranks = lexicographic_ranks(task.document_ids)
    runs = {}
    for name, (scores, rows) in _searched(model, base, task, max(depth, DEPTH), language):
        ordered = order_run(scores, rows, ranks)
        values = {_metric_name(key): value for key, value in per_query(ordered, task.judgements, cuts).items()}
        runs[name] = EncoderRun(scores, ordered, values)
    return runs


def geometry_of(vectors: VectorPair, task: EncoderTask, run: EncoderRun, seed: int = 0) -> dict[str, float]:
    """How vectors lie in their space; {} for fewer than two documents or dimensions.

    Args:
        vectors: The space.
        task: Which query belongs to which document.
        run: The ranking in that space, for hubness.
        seed: Draws the documents, where there are too many.
    """
    count, width = vectors.documents.shape
    if count < 2 or width < 2:
        return {}
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:_SAMPLE])
    documents = vectors.documents[chosen]
    figures = {
        "isotropy_score": geometry.isotropy_score(documents),
        "effective_rank": geometry.effective_rank(documents),
        "uniformity": geometry.uniformity(documents),
        "mean_cosine": geometry.mean_cosine(documents),
        "embedding_std": geometry.embedding_std(documents),
        "hubness@10": geometry.occurrence_skewness(run.rows[:, :10], count),
    }
    firsts = [task.judgements.positives(query)[:1] for query in range(len(task.queries))]
    asked = [query for query, first in enumerate(firsts) if len(first)]
    if asked:
        pairs = vectors.queries[asked], vectors.documents[np.concatenate([firsts[query] for query in asked])]
        figures |= {
            "alignment": geometry.alignment(*pairs),
            "mean_positive_distance": geometry.mean_positive_distance(*pairs),
        }
    return figures


def centred(base: VectorPair) -> VectorPair:
    """Both sides less the documents' mean, of length 1 again."""
    mean = base.documents.mean(axis=0, dtype=np.float64)
    return VectorPair(_unit(base.documents - mean), _unit(base.queries - mean))


def whitened(base: VectorPair) -> VectorPair:
    """Both sides moved and turned so that the documents have mean 0 and unit covariance, of length 1 again.

    BERT-whitening (Su et al. 2021, arXiv:2103.15316); directions in which the documents do not vary are left out.
    """
    mean = base.documents.mean(axis=0, dtype=np.float64)
    documents = base.documents - mean
    values, directions = np.linalg.eigh(documents.T @ documents / max(len(documents), 1))
    used = values > max(_NEGLIGIBLE * values[-1], 0.0)
    if not used.any():
        return centred(base)
    turn = directions[:, used] / np.sqrt(values[used])
    return VectorPair(_unit(documents @ turn), _unit((base.queries - mean) @ turn))


def _searched(
    model: VectorPair, base: VectorPair, task: EncoderTask, depth: int, language: str
) -> Iterator[tuple[str, tuple[FloatMatrix, RowMatrix]]]:
    dense = nearest(model, depth)
    lexical = LexicalIndex.build(task.documents, language).search(task.queries, depth)
    yield "model", dense
    yield "base", nearest(base, depth)
    yield "bm25", lexical
    yield "rrf", reciprocal_rank_fusion([dense[1], lexical[1]], depth)
    yield "centred_base", nearest(centred(base), depth)
    yield "whitened_base", nearest(whitened(base), depth)


def nearest(vectors: VectorPair, depth: int) -> tuple[FloatMatrix, RowMatrix]:
    """The documents nearest to each query by L2: negated distances [Q, K] and rows [Q, K].

    Between unit vectors that is the order of the cosine.
    """
    index = DistanceIndex(vectors.documents.shape[1])
    index.add(vectors.documents)
    distances, rows = index.search(vectors.queries, depth)
    return -distances.astype(np.float32), rows


def _original_base(
    model: GaussianEmbeddingGemma, task: EncoderTask, batch_size: int, store: EmbeddingStore | None
) -> VectorPair:
    """Vectors of the base as it was before its weights moved."""
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    identity = model.base_identity
    base = SentenceEncoder(
        identity.name,
        max_seq_length=identity.max_seq_length,
        query_prompt=identity.query_prompt,
        document_prompt=identity.document_prompt,
        own_prompts=False,
        device=str(model.device),
        revision=identity.revision or None,
        batch_size=batch_size,
        offline=True,
    )
    rows = [
        base.encode(texts, role) if store is None else store.embed(texts, base, role) for texts, role in _texts(task)
    ]
    return VectorPair(rows[0], rows[1])


def _texts(task: EncoderTask) -> tuple[tuple[tuple[str, ...], Any], ...]:
    return (task.documents, "document"), (task.queries, "query")


@torch.no_grad()
def _pair(rows: list[torch.Tensor], model: GaussianEmbeddingGemma) -> VectorPair:
    return VectorPair(rows[0].numpy(), model.predict_query(rows[1]).numpy())


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit


def _metric_name(key: str) -> str:
    name, _, cut = key.partition("@")
    return "MRR" if name == "mrr" else f"{'Recall' if name == 'recall' else name.upper()}@{cut}"
