from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from jasper_rag.data.epoch_sampler import EpochSampler
from jasper_rag.data.loader import create_loader, create_loaders, set_epoch, validate_first_batch
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError

FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def served(loader: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_positional_arguments_as_documented(ours: Any) -> None:
    loader = create_loader(ours.root, "train", 8)
    assert (loader.batch_size, len(loader), loader.dataset_obj.embedding_dim) == (8, 4, 6)
    assert validate_first_batch(loader)


def test_the_train_split_is_shuffled_anew_every_epoch_and_the_others_are_not(ours: Any) -> None:
    loader = create_loader(ours.root, "train", 8)
    first, again = served(loader), served(loader)
    assert same(first, again)
    set_epoch(loader, 1)
    other = served(loader)
    assert not torch.equal(first["relevance"], other["relevance"])
    assert torch.equal(first["relevance"].sort().values, other["relevance"].sort().values)
    val = served(create_loader(ours.root, "val", 3))
    assert torch.equal(val["relevance"], ours.tensors["pair_relevance"][ours.tensors["val_idx"]])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batches"), [(5, 6), (32, 1), (33, 1)])
def test_the_last_batch_is_left_out_unless_it_is_the_only_one(ours: Any, size: int, batches: int) -> None:
    assert len(list(create_loader(ours.root, "train", size))) == batches
    assert len(list(create_loader(ours.root, "train", 5, drop_last=False))) == 7
    assert len(list(create_loader(ours.root, "val", 3))) == 2


@pytest.mark.slow
@FORKS
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_serve_the_same(ours: Any, workers: int) -> None:
    expected = served(create_loader(ours.root, "train", 5, epoch=6))
    loader = create_loader(ours.root, "train", 5, num_workers=workers, epoch=6, multiprocessing_context="fork")
    assert same(served(loader), expected)


@pytest.mark.slow
@FORKS
def test_running_workers_follow_epoch_force_and_negatives(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    loader = create_loader(dataset, "train", 8, num_workers=2, multiprocessing_context="fork")
    here = create_loader(dataset, "train", 8)
    processes = []
    for epoch in (0, 9):
        set_epoch(loader, epoch)
        assert same(served(loader), served(here))
        processes.append({child.pid for child in multiprocessing.active_children()})
    assert processes[0] == processes[1]
    dataset.force_steering("keyword")
    assert set(served(loader)["steering_variant"].tolist()) == {2}
    torch.save((ours.tensors["hard_negatives"] + 1) % 40, ours.root / "hard_negatives.pt")
    before = served(loader)["negative_embs"]
    assert dataset.reload_negatives()
    after = served(loader)
    assert not torch.equal(after["negative_embs"], before)
    assert same(after, served(here))


@pytest.mark.slow
@pytest.mark.parametrize("use_mmap", [False, True])
def test_spawned_workers_serve_the_same(ours: Any, use_mmap: bool) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train", use_mmap=use_mmap)
    loader = create_loader(dataset, "train", 8, num_workers=2, multiprocessing_context="spawn")
    here = create_loader(dataset, "train", 8)
    for epoch in (0, 9):
        set_epoch(loader, epoch)
        assert same(served(loader), served(here))
    dataset.force_steering("residual")
    assert same(served(loader), served(here))
    plain = DataLoader(dataset, batch_size=8, num_workers=1, multiprocessing_context="spawn")
    assert len(served(plain)["relevance"]) == 32


def test_ranks_see_all_samples_once(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "val")
    for world in (1, 2, 3, 4, 5):
        samplers = [EpochSampler(dataset, False, rank, world) for rank in range(world)]
        assert sorted(place for sampler in samplers for place in sampler) == [0, 1, 2, 3]
        assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_train_ranks_are_disjoint_and_even(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train", epoch=2)
    samplers = [EpochSampler(dataset, True, rank, 3, even=True) for rank in range(3)]
    places = [list(sampler) for sampler in samplers]
    assert [len(part) for part in places] == [len(sampler) for sampler in samplers] == [10, 10, 10]
    assert len({place for part in places for place in part}) == 30
    whole = list(EpochSampler(dataset, True))
    assert places[1] == whole[1:30:3]
    with pytest.raises(ValueError, match="rank 3 of 3"):
        EpochSampler(dataset, True, 3, 3)


@pytest.mark.slow
def test_distributed_asks_the_process_group(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="init_process_group"):
        create_loader(ours.root, "train", 4, distributed=True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    loader = create_loader(ours.root, "train", 4, 0, True)
    assert (loader.sampler_obj.rank, loader.sampler_obj.world_size, len(loader)) == (1, 2, 4)
    alone = served(create_loader(loader.dataset_obj, "train", 1, distributed=False))
    assert torch.equal(served(loader)["relevance"], alone["relevance"][1::2])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=FORKS)])
def test_an_epoch_can_be_taken_up_in_the_middle(ours: Any, workers: int) -> None:
    whole = list(create_loader(ours.root, "train", 5, epoch=3, drop_last=False))
    resumed = create_loader(ours.root, "train", 5, workers, multiprocessing_context="fork", drop_last=False)
    set_epoch(resumed, 3)
    resumed.sampler_obj.set_position(2 * 5)
    rest = list(resumed)
    assert len(rest) == 5
    assert len(resumed) == 7
    assert all(same(one, other) for one, other in zip(rest, whole[2:], strict=True))
    set_epoch(resumed, 4)
    assert len(list(resumed)) == 7
    with pytest.raises(ValueError, match="position 33 in an epoch of 32"):
        resumed.sampler_obj.set_position(33)


def test_set_epoch_of_plain_loaders(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    set_epoch(DataLoader(dataset, batch_size=4, shuffle=True), 3)
    assert dataset.current_epoch == 3
    set_epoch(DataLoader(Subset(dataset, [0, 1]), batch_size=2), 4)
    assert dataset.current_epoch == 4
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, num_replicas=2, rank=0)
    set_epoch(DataLoader(dataset, batch_size=4, sampler=sampler), 5)
    assert (dataset.current_epoch, sampler.epoch) == (5, 5)
    with pytest.raises(ValueError, match="TensorDataset, which counts no epochs"):
        set_epoch(DataLoader(TensorDataset(torch.zeros(3))), 1)


def test_loaders_of_several_splits_share_one_copy(ours: Any) -> None:
    loaders = create_loaders(ours.root, 4, epoch=2, seed=5, num_workers=0)
    assert set(loaders) == {"train", "val", "test"}
    assert len({loader.dataset_obj.source_embs.data_ptr() for loader in loaders.values()}) == 1
    assert {(loader.dataset_obj.current_epoch, loader.dataset_obj.seed) for loader in loaders.values()} == {(2, 5)}
    assert set(create_loaders(ours.root, 4, ["val"])) == {"val"}
    with pytest.raises(InputError, match="no dev split"):
        create_loaders(ours.root, 4, ["train", "dev"])


def test_bad_arguments(ours: Any) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        create_loader(ours.root, "train", 0)
    with pytest.raises(InputError, match="num_workers=2 with a dataset on meta"):
        create_loader(ours.root, "train", 4, 2, device="meta")
    dataset = JASPERSteeringDataset(ours.root, "train")
    with pytest.raises(ValueError, match="'val' asked for, but the dataset given is of the train split"):
        create_loader(dataset, "val", 4)


def test_validating_uses_up_no_random_numbers(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert validate_first_batch(DataLoader(dataset, batch_size=4, shuffle=True))
    assert torch.equal(torch.rand(1), expected)


def spoil(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[Any], dict[str, Tensor]]:
    def collate(samples: Any) -> dict[str, Tensor]:
        return {**samples.tensors, key: change(samples.tensors[key])}

    return collate


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("steering", lambda tensor: tensor[:, :3], r"steering is \[4, 3\]"),
        ("relevance", lambda tensor: tensor + 2, "relevance holds"),
        ("question_emb", lambda tensor: tensor * float("nan"), "question_emb holds nan"),
        ("cluster_id", lambda tensor: tensor + 100, "cluster_id holds"),
        ("negative_tiers", lambda tensor: tensor * 0, "negative_tiers holds 0"),
        ("steering_variant", lambda tensor: tensor.float(), "torch.float32"),
        ("extra", lambda tensor: tensor, "a batch has the keys"),
    ],
)
def test_a_wrong_first_batch_is_named(ours: Any, key: str, change: Callable[[Tensor], Tensor], problem: str) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    collate = spoil(key, change) if key != "extra" else lambda samples: {"extra": samples.tensors["relevance"]}
    with pytest.raises(ValueError, match=problem):
        validate_first_batch(DataLoader(dataset, batch_size=4, collate_fn=collate))


def test_there_must_be_a_batch(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "val")
    with pytest.raises(ValueError, match="no batch: 4 samples, batches of 5"):
        validate_first_batch(DataLoader(dataset, batch_size=5, drop_last=True))
    with pytest.raises(ValueError, match="got TensorDataset"):
        validate_first_batch(DataLoader(TensorDataset(torch.zeros(3)), batch_size=1))
