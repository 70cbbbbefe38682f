from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.data.balanced_order import balanced_order
from jasper_rag.data.counter_random import permutation
from jasper_rag.data.epoch_sampler import EpochSampler
from jasper_rag.data.loader import create_loader, create_loaders, set_epoch
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError

CLUSTERS = st.lists(st.sampled_from([0, 1, 2, 5, 9]), max_size=60)


def in_turn(clusters: list[int], seed: int, epoch: int, length: int, rank: int, world_size: int) -> list[int]:
    """Brute force: queues of samples, served in turn and filled again when they are empty."""
    places = permutation(seed, epoch, len(clusters)).tolist()
    by_cluster = [place for cluster in sorted(set(clusters)) for place in places if clusters[place] == cluster]
    mine = [place for number, place in enumerate(by_cluster) if number % world_size == (rank + epoch) % world_size]
    present = sorted({clusters[place] for place in mine})
    turn = [present[number] for number in permutation(seed, epoch, len(present))]
    queues: dict[int, list[int]] = {cluster: [] for cluster in present}
    order: list[int] = []
    while present and len(order) < length:
        cluster = turn[len(order) % len(turn)]
        if not queues[cluster]:
            queues[cluster] = [place for place in mine if clusters[place] == cluster]
        order.append(queues[cluster].pop(0))
    return order


@pytest.mark.slow
@given(CLUSTERS, st.integers(0, 9), st.integers(0, 5), st.integers(1, 4))
def test_it_is_that_of_brute_force(clusters: list[int], seed: int, epoch: int, world_size: int) -> None:
    length = len(clusters) // world_size
    for rank in range(world_size):
        found = balanced_order(np.array(clusters, dtype=np.int64), seed, epoch, length, rank, world_size)
        assert found.tolist() == in_turn(clusters, seed, epoch, length, rank, world_size)


@pytest.mark.slow
@given(CLUSTERS.filter(len), st.integers(0, 5), st.integers(1, 4), st.integers(1, 20))
def test_batches_are_balanced_and_ranks_disjoint(
    clusters: list[int], epoch: int, world_size: int, batch_size: int
) -> None:
    array = np.array(clusters, dtype=np.int64)
    length = len(clusters) // world_size
    orders = [balanced_order(array, 3, epoch, length, rank, world_size) for rank in range(world_size)]
    seen = [set(order.tolist()) for order in orders]
    assert len(set.union(*seen)) == sum(map(len, seen))
    for order in orders:
        assert len(order) == length
        present = set(array[order].tolist())
        for start in range(max(length - batch_size, 0) + 1):
            counts = Counter(array[order[start : start + batch_size]].tolist())
            assert max(counts.values(), default=0) - min((counts[cluster] for cluster in present), default=0) <= 1


def test_every_sample_comes_in_some_epoch() -> None:
    clusters = np.repeat([0, 1], [38, 2])
    seen: set[int] = set()
    for epoch in range(12):
        order = balanced_order(clusters, 0, epoch, 40)
        assert np.bincount(clusters[order]).tolist() == [20, 20]
        seen |= set(order.tolist())
    assert seen == set(range(40))


@pytest.fixture
def uneven(make: Callable[..., Any]) -> Any:
    """Most pairs are of cluster 0."""
    clusters = torch.zeros(40, dtype=torch.int64)
    clusters[:8] = torch.tensor([1, 1, 2, 2, 2, 3, 3, 3])
    return make("ours", pair_cluster_id=clusters)


def test_a_loader_serves_clusters_equally_often(uneven: Any) -> None:
    loader = create_loader(uneven.root, "train", 8, balanced="cluster")
    orders = []
    for epoch in (0, 1, 0):
        set_epoch(loader, epoch)
        batches = list(loader)
        assert [batch["cluster_id"].bincount().tolist() for batch in batches] == [[2, 2, 2, 2]] * 4
        orders.append(torch.cat([batch["relevance"] for batch in batches]).tolist())
    assert orders[0] == orders[2] != orders[1]
    loader.sampler_obj.set_position(24)
    assert next(iter(loader))["relevance"].tolist() == orders[0][24:]


@pytest.mark.slow
def test_ranks_share_the_clusters(uneven: Any) -> None:
    dataset = JASPERSteeringDataset(uneven.root, "train", epoch=3)
    clusters = uneven.tensors["pair_cluster_id"][uneven.tensors["train_idx"]]
    places = [list(EpochSampler(dataset, True, rank, 2, even=True, balanced=True)) for rank in range(2)]
    assert not set(places[0]) & set(places[1])
    assert [clusters[part].bincount().tolist() for part in places] == [[4, 4, 4, 4]] * 2


def test_other_splits_stay_as_they_are(uneven: Any) -> None:
    loaders = create_loaders(uneven.root, 8, balanced="cluster")
    expected = uneven.tensors["pair_relevance"][uneven.tensors["val_idx"]]
    assert torch.equal(next(iter(loaders["val"]))["relevance"], expected)


def test_what_it_is_not(uneven: Any) -> None:
    with pytest.raises(InputError, match="balanced='topic'"):
        create_loader(uneven.root, "train", 8, balanced="topic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shuffle is False"):
        EpochSampler(JASPERSteeringDataset(uneven.root, "val"), False, balanced=True)
