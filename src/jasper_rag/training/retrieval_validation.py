"""nDCG@10, recall@10 and MRR@10 of held-out questions: the figures that choose a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import ndcg, recall, reciprocal_rank
from jasper_rag.metrics.topk import top_k

Predict = Callable[[Tensor, Tensor | None], Tensor]
"""Questions [Q, D] and steering [Q, D] or None -> predictions [Q, D], without gradient."""

Project = Callable[[Tensor], Tensor]
"""Sources [N, D] -> the vectors [N, D] that are searched."""

DEPTH = 10


class RetrievalValidation(Protocol):
    """Ranks a corpus for held-out questions."""

    def __call__(self, predict: Predict, project: Project | None = None) -> dict[str, float]:
        """Metrics by name, e.g. "ndcg@10" (zero steering), "ndcg@10_centroid", "ndcg@10_question"."""


class SplitRetrieval:
    """Ranks a whole corpus for the questions of a split, without steering.

    Args:
        queries: Questions and judgements.
        documents: The corpus.
    """

    def __init__(self, queries: EmbeddedQueries, documents: DocumentVectors) -> None:
        self._queries = queries
        self._documents = documents
        self._questions = torch.from_numpy(np.ascontiguousarray(queries.vectors))
        self.question_metrics = self._metrics(queries.vectors)

    def __call__(self, predict: Predict, project: Project | None = None) -> dict[str, float]:
        """See `RetrievalValidation`.

        Raises:
            ValueError: The sources are projected; this corpus is searched as it is.
        """
        if project is not None:
            raise ValueError("SplitRetrieval searches its documents as they are")
        predicted = predict(self._questions, None).cpu().numpy()
        # The untrained predictor is the identity: no need to search twice.
        same = np.array_equal(predicted, self._queries.vectors)
        return {**(self.question_metrics if same else self._metrics(predicted)), **_of_question(self.question_metrics)}

    def _metrics(self, vectors: NDArray[np.float32]) -> dict[str, float]:
        return _metrics(self._documents.top_k(vectors, DEPTH)[1], self._queries.judgements)


class DatasetRetrieval:
    """Ranks all sources of a steering dataset for the questions of one split, once per steering variant.

    A question with several sources is steered by its most relevant pair. Guided variants know the answer's cluster or
    keywords: upper bounds, shown apart.

    Args:
        dataset: The split.
        variants: Of `VARIANTS`, those to ask with; the first is the headline figure.
        most: At most so many questions, drawn by the dataset's seed; None: all.
    """

    def __init__(
        self, dataset: JASPERSteeringDataset, variants: tuple[str, ...] = VARIANTS, most: int | None = None
    ) -> None:
        rows, sides, relevance = _pairs_of(dataset)
        asked = np.unique(sides[relevance > 0, 0])
        if not len(asked):
            raise ValueError(f"no pair of the {dataset.split} split is relevant")
        if most is not None and len(asked) > most:
            asked = np.sort(np.random.default_rng(dataset.seed).permutation(asked)[:most])
        self._dataset = dataset
        self._variants = variants
        self._asked = torch.from_numpy(asked)
        self._judgements = _judgements(asked, sides, relevance)
        self._pairs = rows[_best_pairs(asked, sides[:, 0], relevance)]
        self._question_metrics: dict[str, float] | None = None

    def __call__(self, predict: Predict, project: Project | None = None) -> dict[str, float]:
        """See `RetrievalValidation`."""
        opened = self._dataset.tensors
        questions = opened.tensors["question_embs"].index_select(0, self._asked.to(opened.device))
        plain = opened.tensors["source_embs"]
        if self._question_metrics is None:
            self._question_metrics = _metrics(_ranked(questions, plain), self._judgements)
        documents = plain if project is None else project(plain)
        found: dict[str, float] = {}
        for variant in self._variants:
            steering = None if variant == "zero" else self._steering(questions, variant)
            metrics = _metrics(_ranked(predict(questions, steering), documents), self._judgements)
            ending = "" if variant == "zero" else f"_{variant}"
            found |= {f"{name}{ending}": value for name, value in metrics.items()}
        return {**found, **_of_question(self._question_metrics)}

    def _steering(self, questions: Tensor, variant: str) -> Tensor:
        opened = self._dataset.tensors
        clusters = opened.tensors["pair_cluster_id"].index_select(0, torch.from_numpy(self._pairs).to(opened.device))
        numbers = np.full(len(self._pairs), VARIANTS.index(variant), dtype=np.int64)
        return opened.steering(self._pairs, questions, clusters, numbers, torch.empty_like(questions))


def split_judgements(dataset: JASPERSteeringDataset) -> tuple[NDArray[np.int64], Judgements]:
    """Which questions of a split have a relevant source, and which: ascending rows int64 [Q], their judgements.

    Grades are 1, 2, ... in the order of the relevances that occur.
    """
    _, sides, relevance = _pairs_of(dataset)
    asked = np.unique(sides[relevance > 0, 0])
    return asked, _judgements(asked, sides, relevance)


def _pairs_of(
    dataset: JASPERSteeringDataset,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows of a split's pairs [P], their questions and sources [P, 2], their relevance [P]."""
    held = dataset.tensors.tensors
    rows = dataset.split_indices.cpu().numpy()
    return rows, held["pair_index"].cpu().numpy()[rows], held["pair_relevance"].cpu().numpy()[rows]


def _judgements(asked: NDArray[np.int64], sides: NDArray[np.int64], relevance: NDArray[np.float32]) -> Judgements:
    """Grades 1, 2, ... in the order of the relevances that occur."""
    levels = np.unique(relevance[relevance > 0])
    grades = np.searchsorted(levels, relevance) + 1
    kept = (relevance > 0) & np.isin(sides[:, 0], asked)
    order = np.lexsort((-grades[kept], sides[kept, 1], sides[kept, 0]))
    questions, sources, grades = sides[kept, 0][order], sides[kept, 1][order], grades[kept][order]
    # A pair given twice counts once, with its higher grade.
    first = np.ones(len(sources), dtype=np.bool_)
    first[1:] = (np.diff(questions) != 0) | (np.diff(sources) != 0)
    counts = np.bincount(np.searchsorted(asked, questions[first]), minlength=len(asked))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Judgements(indptr, sources[first], grades[first].astype(np.int64))


def _best_pairs(
    asked: NDArray[np.int64], questions: NDArray[np.int64], relevance: NDArray[np.float32]
) -> NDArray[np.int64]:
    order = np.lexsort((np.arange(len(questions)), -relevance, questions))
    best: NDArray[np.int64] = order[np.searchsorted(questions[order], asked)]
    return best


def _ranked(queries: Tensor, documents: Tensor) -> NDArray[np.int64]:
    """Rows of the `DEPTH` best documents, int64 [Q, DEPTH]."""
    if queries.device.type == "cpu":
        return top_k(queries.numpy(), documents.numpy(), DEPTH)[1]
    # Blocks of 2^26 scores, 256 MB.
    blocks = torch.split(queries, max(1, (1 << 26) // max(len(documents), 1)))
    found = [(block @ documents.T).topk(min(DEPTH, len(documents)), dim=1).indices for block in blocks]
    ranked: NDArray[np.int64] = torch.cat(found).cpu().numpy()
    return ranked


def _metrics(ranked: NDArray[np.int64], judgements: Judgements) -> dict[str, float]:
    measures = {"ndcg": ndcg, "recall": recall, "mrr": reciprocal_rank}
    return {f"{name}@{DEPTH}": float(one(ranked, judgements, DEPTH).mean()) for name, one in measures.items()}


def _of_question(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_question": value for name, value in metrics.items()}
