"""Validation of a Gaussian encoder by what it is for: finding a query's answers among everything that is known.

The corpus holds the positives and negatives of the val pairs and the positives of the train pairs, each text once.
Queries are those of the val pairs; all positives that val or train know of one count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.vectors import Role
from jasper_rag.metrics.geometry import effective_rank, isotropy_score
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.metrics.topk import top_k
from jasper_rag.text.pair_files import TrainingExample
from jasper_rag.training.encoder_batches import PairTable, pair_table
from jasper_rag.training.encoder_step import EncoderStep, means

DISTRACTORS = 20_000
"""Most train positives in the corpus; of more, so many are drawn."""

_SHAPE_ROWS = 2_048
"""Most documents that isotropy and effective rank are measured on."""

Encode = Callable[[Sequence[str], Role], Tensor]
"""The base's vectors [n, D] of texts, float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Queries, corpus and judgements.

    Args:
        table: The val pairs; its queries are asked, its documents stand first in the corpus.
        corpus: All documents.
        judgements: Rows of the corpus that answer each query.
    """

    table: PairTable
    corpus: tuple[str, ...]
    judgements: Judgements


def validation_set(
    val: Sequence[TrainingExample], train: Sequence[TrainingExample], seed: int, distractors: int = DISTRACTORS
) -> ValidationSet:
    """Make one of the pairs of both splits."""
    table = pair_table(val)
    rows = {text: row for row, text in enumerate(table.documents)}
    others = [text for text in dict.fromkeys(example.positive for example in train) if text not in rows]
    if len(others) > distractors:
        chosen = np.random.default_rng(seed).choice(len(others), size=distractors, replace=False)
        others = [others[place] for place in np.sort(chosen)]
    corpus = (*table.documents, *others)
    rows = {text: row for row, text in enumerate(corpus)}
    found: dict[str, dict[int, None]] = {query: {} for query in table.queries}
    for example in (*val, *train):
        if example.query in found and example.positive in rows:
            found[example.query][rows[example.positive]] = None
    counts = [len(answers) for answers in found.values()]
    documents = np.array([row for answers in found.values() for row in answers], dtype=np.int64)
    judgements = Judgements(np.cumsum([0, *counts], dtype=np.int64), documents, np.ones(len(documents), dtype=np.int64))
    return ValidationSet(table, corpus, judgements)


class Validation:
    """Measures a model on a validation set.

    Args:
        data: Queries, corpus, judgements.
        encode: The base's vectors; called anew for every measurement, unless `frozen`.
        pairs: Val pairs per loss, as in training.
        frozen: The base does not move: its vectors are computed once.
        first: The base's vectors of queries and corpus as it is now, for the first measurement.
    """

    def __init__(
        self,
        data: ValidationSet,
        encode: Encode,
        pairs: int,
        *,
        frozen: bool,
        first: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.data, self._encode, self._pairs, self._frozen = data, encode, pairs, frozen
        self._kept = first

    @torch.no_grad()
    def measure(self, step: EncoderStep) -> dict[str, float]:
        """Retrieval, losses and geometry of the model of a step.

        Returns:
            "ndcg@10", "isotropy_score", "effective_rank" and "val_" + each term of the loss.
        """
        model = step.model
        was_training = model.training
        model.eval()
        step.objective.eval()
        queries, documents = self._features()
        asked = _in_blocks(lambda rows: model.predict_query(model.project(rows)), queries, model)
        corpus = _in_blocks(model.project, documents, model)
        shape = corpus[_spread(len(corpus), _SHAPE_ROWS)]
        found = {
            "ndcg@10": mean_ndcg(asked, corpus, self.data.judgements),
            "isotropy_score": isotropy_score(shape) if len(shape) > 1 and shape.shape[1] > 1 else 0.0,
            "effective_rank": effective_rank(shape),
            **{f"val_{name}": value for name, value in self._losses(step, queries, documents).items()},
        }
        model.train(was_training)
        step.objective.train()
        return found

    def _features(self) -> tuple[Tensor, Tensor]:
        found = self._kept
        if found is None:
            found = self._encode(self.data.table.queries, "query"), self._encode(self.data.corpus, "document")
        self._kept = found if self._frozen else None
        return found

    def _losses(self, step: EncoderStep, queries: Tensor, documents: Tensor) -> dict[str, float]:
        table, device = self.data.table, step.model.device
        rows = []
        for start in range(0, len(table), self._pairs):
            pairs = np.arange(start, min(start + self._pairs, len(table)))
            chosen = table.negative_rows[pairs]
            negatives = documents[np.maximum(chosen, 0)].to(device) if (chosen >= 0).any() else None
            total, terms = step.loss(
                *(table, pairs, queries[table.query_rows[pairs]].to(device)),
                documents[table.positive_rows[pairs]].to(device),
                negatives,
            )
            rows.append({"total": total, **terms})
        return means(rows)


def mean_ndcg(queries: NDArray[Any], documents: NDArray[Any], judgements: Judgements) -> float:
    """Mean nDCG@10 of a search by L2 distance.

    Args:
        queries: [Q, d].
        documents: [N, d].
        judgements: Of the queries.
    """
    # -|q - c|^2 / 2 = q . c - |c|^2 / 2 up to a constant of the query: an inner product with one coordinate more.
    longer = np.hstack([documents, -0.5 * np.square(documents).sum(axis=1, keepdims=True)])
    _, rows = top_k(np.hstack([queries, np.ones((len(queries), 1), dtype=queries.dtype)]), longer, 10)
    return float(ndcg(rows, judgements, 10).mean())


def _in_blocks(apply: Callable[[Tensor], Tensor], rows: Tensor, model: GaussianEmbeddingGemma) -> NDArray[Any]:
    parts = [apply(part.to(model.device)).float().cpu().numpy() for part in torch.split(rows, 4096)]
    return np.concatenate(parts)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` rows, evenly spread over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
