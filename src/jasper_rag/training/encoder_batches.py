"""Pairs as rows of distinct texts, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.text.pair_files import TrainingExample

Rows = NDArray[np.int64]

_BATCHES_SORTED = 32
"""Batches whose pairs are sorted by length together."""


@dataclass(frozen=True, slots=True)
class PairTable:
    """E pairs over distinct texts.

    Args:
        queries: Distinct queries.
        documents: Distinct positives and negatives.
        query_rows: int64 [E].
        positive_rows: int64 [E], rows of `documents`.
        negative_rows: int64 [E]; -1 where a pair has none.
        answers: int64 [queries, W]: all positives of a query; -1 pads.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    query_rows: Rows
    positive_rows: Rows
    negative_rows: Rows
    answers: Rows

    def __len__(self) -> int:
        return len(self.query_rows)

    def lengths(self) -> Rows:
        """Characters of each pair's longest text, [E]: what padding costs goes by it."""
        sizes = np.array([len(text) for text in self.documents], dtype=np.int64)
        negatives = np.where(self.negative_rows >= 0, sizes[self.negative_rows], 0)
        asked = np.array([len(text) for text in self.queries], dtype=np.int64)[self.query_rows]
        return np.maximum(np.maximum(sizes[self.positive_rows], negatives), asked)


def pair_table(examples: Sequence[TrainingExample]) -> PairTable:
    """Rows of the texts of pairs; a text that occurs often is one row."""
    queries: dict[str, int] = {}
    documents: dict[str, int] = {}
    rows = np.empty((3, len(examples)), dtype=np.int64)
    answers: dict[int, dict[int, None]] = {}
    for place, example in enumerate(examples):
        query = queries.setdefault(example.query, len(queries))
        positive = documents.setdefault(example.positive, len(documents))
        negative = documents.setdefault(example.negative, len(documents)) if example.negative else -1
        answers.setdefault(query, {})[positive] = None
        rows[:, place] = query, positive, negative
    width = max((len(found) for found in answers.values()), default=0)
    padded = np.full((len(queries), width), -1, dtype=np.int64)
    for query, found in answers.items():
        padded[query, : len(found)] = list(found)
    return PairTable(tuple(queries), tuple(documents), rows[0], rows[1], rows[2], padded)


def epoch_batches(
    count: int, batch: int, seed: int, epoch: int, *, lengths: Rows | None = None, rank: int = 0, ranks: int = 1
) -> list[Rows]:
    """The pairs of each optimiser step of an epoch, those of one process.

    Args:
        count: E.
        batch: Pairs per step of one process.
        seed: Of the order.
        epoch: From 1; another order in each.
        lengths: int64 [E]; with them, pairs of similar length are put together, for less padding.
        rank: Of this process.
        ranks: Processes; each takes as many pairs of a step, what cannot be divided is left out until another epoch.

    Returns:
        Arrays of pairs; the last of an epoch may be smaller.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(count)
    joint = batch * ranks
    if lengths is not None:
        span = joint * _BATCHES_SORTED
        pieces = [order[start : start + span] for start in range(0, count, span)]
        order = np.concatenate([piece[np.argsort(-lengths[piece], kind="stable")] for piece in pieces])
    steps = [order[start : start + joint] for start in range(0, count, joint)]
    if lengths is not None:
        steps = [steps[place] for place in generator.permutation(len(steps))]
    shares = [step[: len(step) - len(step) % ranks].reshape(ranks, -1)[rank] for step in steps]
    return [share for share in shares if len(share)]


def batch_ids(table: PairTable, pairs: Rows) -> dict[str, Any]:
    """What of a batch is no negative of what: `positive_ids`, `negative_ids`, `known_positives` as numpy arrays."""
    ids: dict[str, Any] = {"positive_ids": table.positive_rows[pairs]}
    if (table.negative_rows[pairs] >= 0).any():
        ids["negative_ids"] = table.negative_rows[pairs]
    if table.answers.shape[1] > 1:
        ids["known_positives"] = table.answers[table.query_rows[pairs]]
    return ids
