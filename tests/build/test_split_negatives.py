from __future__ import annotations

import numpy as np

from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_mining import mine_negatives
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.split_negatives import allowed_sources, mine_splits
from jasper_rag.models.guard import unit


def make() -> tuple[PairSet, dict[str, np.ndarray]]:
    generator = np.random.default_rng(4)
    centroids = unit(generator.standard_normal((4, 8)).astype(np.float32))
    cluster = generator.integers(4, size=60)
    vectors = unit(centroids[cluster] + 0.4 * generator.standard_normal((60, 8)).astype(np.float32))
    pairs = np.stack([np.arange(50), generator.permutation(60)[:50]], axis=1)
    asked = unit(vectors[pairs[:, 1]] + 0.2 * generator.standard_normal((50, 8)).astype(np.float32))
    group = np.arange(60)
    group[pairs[3, 1]] = group[pairs[45, 1]] = min(pairs[3, 1], pairs[45, 1])
    given = PairSet(asked, vectors, pairs, cluster, centroids, pairs, group)
    # Splits need not be runs of rows.
    order = generator.permutation(50)
    return given, {"train": order[:35], "val": order[35:42], "test": order[42:]}


def test_every_split_is_mined_as_if_alone_and_rows_keep_their_places() -> None:
    given, splits = make()
    config = NegativeConfig(n_neg=5)
    found = mine_splits(given, splits, config, seed=7)
    assert found.rows.shape == (50, 5)
    for split, rows in splits.items():
        part = PairSet(
            given.questions,
            given.sources,
            given.pairs[rows],
            given.source_cluster,
            given.centroids,
            given.pairs,
            given.text_group,
        )
        alone = mine_negatives(part, allowed_sources(given.pairs, splits, given.text_group, split), config, 7)
        np.testing.assert_array_equal(found.rows[rows], alone.rows)
        np.testing.assert_array_equal(found.tiers[rows], alone.tiers)
        np.testing.assert_array_equal(found.scores[rows], alone.scores)


def test_train_sees_sources_of_train_alone() -> None:
    given, splits = make()
    train = set(given.text_group[given.pairs[splits["train"], 1]].tolist())
    found = mine_splits(given, splits, NegativeConfig(n_neg=5), seed=0)
    assert set(found.rows[splits["train"]].ravel().tolist()) <= train
    assert not set(found.rows[splits["test"]].ravel().tolist()) <= train
    allowed = allowed_sources(given.pairs, splits, given.text_group, "train")
    assert set(np.flatnonzero(allowed).tolist()) == train
    assert allowed_sources(given.pairs, splits, given.text_group, "val").all()
