"""The base's vectors of a batch: looked up where the base is frozen, computed with gradient where it learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.vectors import Role
from jasper_rag.training.cached_gradients import CachedOutputs
from jasper_rag.training.encoder_batches import PairTable, Rows

_AHEAD = 2
"""Batches whose texts are turned into tokens while an earlier one is computed."""


@dataclass
class BatchFeatures:
    """Base vectors of one optimiser step.

    Args:
        pairs: Of the step, int64 [B].
        queries: [B, D].
        positives: [B, D].
        negatives: [B, D], zeros where a pair has none; None where no pair has one.
    """

    pairs: Rows
    queries: Tensor
    positives: Tensor
    negatives: Tensor | None
    _cached: CachedOutputs | None = field(default=None, repr=False)

    def backward(self) -> None:
        """After the loss has gone backward to these vectors: on into the base, if it has not got there already."""
        if self._cached is not None:
            self._cached.backward()


class FeatureSource(Protocol):
    """Gives the base's vectors of batches."""

    def batches(self, steps: Sequence[Rows]) -> Iterator[BatchFeatures]:
        """One after the other; the vectors of the next are computed when it is asked for."""
        ...


class FrozenFeatures:
    """Vectors that were computed beforehand.

    Args:
        table: The pairs.
        queries: [queries, D], in the table's order.
        documents: [documents, D].
        device: Where they are needed; they stay there.
    """

    def __init__(self, table: PairTable, queries: Tensor, documents: Tensor, device: torch.device) -> None:
        self._table = table
        self._queries, self._documents = queries.to(device), documents.to(device)

    def batches(self, steps: Sequence[Rows]) -> Iterator[BatchFeatures]:
        """See `FeatureSource`."""
        for pairs in steps:
            table = self._table
            negatives = None
            chosen = table.negative_rows[pairs]
            if (chosen >= 0).any():
                negatives = _with_blanks(self._documents[_index(np.maximum(chosen, 0), self._documents)], chosen)
            yield BatchFeatures(
                pairs,
                self._queries[_index(table.query_rows[pairs], self._queries)],
                self._documents[_index(table.positive_rows[pairs], self._documents)],
                negatives,
            )


@dataclass(frozen=True, slots=True)
class _Part:
    role: Role
    tokens: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Step:
    """Tokens of the distinct texts of a step, and which row of which part each text is."""

    pairs: Rows
    parts: tuple[_Part, ...]
    places: dict[Role, dict[int, int]]


class LiveFeatures:
    """Vectors computed with gradient and dropout; distinct texts of a step once, those of similar length together.

    Args:
        model: Its base computes them.
        table: The pairs.
        batch_size: Pairs per forward pass; a step of more goes through `CachedOutputs`.
        dtype: What the base computes in, under autocast; None: float32.
    """

    def __init__(
        self, model: GaussianEmbeddingGemma, table: PairTable, batch_size: int, dtype: torch.dtype | None = None
    ) -> None:
        self._model, self._table, self._batch, self._dtype = model, table, batch_size, dtype

    def batches(self, steps: Sequence[Rows]) -> Iterator[BatchFeatures]:
        """See `FeatureSource`. Tokens are made ahead, in a thread."""
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[_Step]] = []
            places = iter(steps)
            for pairs in places:
                waiting.append(pool.submit(self._prepared, pairs))
                if len(waiting) > _AHEAD:
                    yield self._computed(waiting.pop(0).result())
            for future in waiting:
                yield self._computed(future.result())

    def _prepared(self, pairs: Rows) -> _Step:
        table = self._table
        negatives = table.negative_rows[pairs]
        documents = np.unique(np.concatenate([table.positive_rows[pairs], negatives[negatives >= 0]]))
        wanted: dict[Role, tuple[Rows, Sequence[str], int]] = {
            "query": (np.unique(table.query_rows[pairs]), table.queries, self._batch),
            "document": (documents, table.documents, self._batch * (2 if (negatives >= 0).any() else 1)),
        }
        parts: list[_Part] = []
        places: dict[Role, dict[int, int]] = {}
        for role, (rows, texts, size) in wanted.items():
            ordered = sorted(rows.tolist(), key=lambda row: (-len(texts[row]), row))
            places[role] = {row: place for place, row in enumerate(ordered)}
            for start in range(0, len(ordered), size):
                chosen = [texts[row] for row in ordered[start : start + size]]
                parts.append(_Part(role, self._model.tokens_of(chosen, role)))
        return _Step(pairs, tuple(parts), places)

    def _computed(self, step: _Step) -> BatchFeatures:
        cached = CachedOutputs([self._runner(part) for part in step.parts], [self._model.device])
        outputs = cached.forward(keep_graph=len(step.parts) <= len(step.places))
        found: dict[Role, Tensor] = {
            role: torch.cat([row for part, row in zip(step.parts, outputs, strict=True) if part.role == role])
            for role in step.places
        }

        def rows(role: Role, numbers: Rows) -> Tensor:
            places = step.places[role]
            wanted = np.array([places.get(number, 0) for number in numbers.tolist()], dtype=np.int64)
            return found[role][_index(wanted, found[role])]

        table, chosen = self._table, self._table.negative_rows[step.pairs]
        return BatchFeatures(
            step.pairs,
            rows("query", table.query_rows[step.pairs]),
            rows("document", table.positive_rows[step.pairs]),
            _with_blanks(rows("document", chosen), chosen) if (chosen >= 0).any() else None,
            cached,
        )

    def _runner(self, part: _Part) -> Any:
        def run() -> Tensor:
            with torch.autocast(self._model.device.type, self._dtype, enabled=self._dtype is not None):
                return self._model.features_of(part.tokens, part.role)

        return run


def _index(rows: Rows, like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _with_blanks(rows: Tensor, chosen: Rows) -> Tensor:
    """Zeros where a pair has no negative."""
    if (chosen >= 0).all():
        return rows
    return rows * torch.from_numpy(chosen >= 0).to(rows).unsqueeze(1)
