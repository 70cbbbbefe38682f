from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.text.pair_files import TrainingExample
from jasper_rag.training.encoder_batches import batch_ids, epoch_batches, pair_table

PAIRS = [
    TrainingExample("q", "a", "long text"),
    TrainingExample("q", "b"),
    TrainingExample("r", "a", "b"),
]


def test_equal_texts_are_one_row() -> None:
    table = pair_table(PAIRS)
    assert table.queries == ("q", "r")
    assert table.documents == ("a", "long text", "b")
    assert table.query_rows.tolist() == [0, 0, 1]
    assert table.positive_rows.tolist() == [0, 2, 0]
    assert table.negative_rows.tolist() == [1, -1, 2]
    assert table.answers.tolist() == [[0, 2], [0, -1]]
    assert table.lengths().tolist() == [9, 1, 1]
    assert len(table) == 3


def test_ids_say_what_is_no_negative() -> None:
    table = pair_table(PAIRS)
    ids = batch_ids(table, np.array([1, 2]))
    assert {name: rows.tolist() for name, rows in ids.items()} == {
        "positive_ids": [2, 0],
        "negative_ids": [-1, 2],
        "known_positives": [[0, 2], [0, -1]],
    }
    plain = pair_table([TrainingExample("q", "a"), TrainingExample("r", "b")])
    assert list(batch_ids(plain, np.array([0]))) == ["positive_ids"]


@pytest.mark.parametrize("by_length", [False, True])
def test_an_epoch_holds_every_pair_once(by_length: bool) -> None:
    lengths = np.arange(43) if by_length else None
    first, second = (epoch_batches(43, 8, 0, epoch, lengths=lengths) for epoch in (1, 2))
    assert len(first) == len(second) == 6
    for batches in (first, second):
        assert sorted(np.concatenate(batches).tolist()) == list(range(43))
        assert sorted(map(len, batches)) == [3, 8, 8, 8, 8, 8]
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    again = epoch_batches(43, 8, 0, 1, lengths=lengths)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in first]


def test_pairs_of_similar_length_are_put_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, size=256)
    spread = [np.ptp(lengths[batch]) for batch in epoch_batches(256, 8, 0, 1, lengths=lengths)]
    plain = [np.ptp(lengths[batch]) for batch in epoch_batches(256, 8, 0, 1)]
    assert np.mean(spread) < np.mean(plain) / 10


def test_processes_share_a_step() -> None:
    shares = [epoch_batches(21, 4, 0, 1, rank=rank, ranks=2) for rank in (0, 1)]
    whole = epoch_batches(21, 8, 0, 1)
    for mine, yours, joint in zip(*shares, whole, strict=True):
        assert len(mine) == len(yours)
        assert [*mine, *yours] == joint[: len(mine) * 2].tolist()
    assert epoch_batches(1, 4, 0, 1, rank=0, ranks=2) == []
