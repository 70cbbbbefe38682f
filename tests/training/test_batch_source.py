from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from jasper_rag.data.curriculum import Curriculum
from jasper_rag.data.loader import create_loader
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.training.batch_source import (
    BatchSource,
    DatasetBatches,
    LoaderBatches,
    PairBatches,
    dataset_of,
    grouped,
    needed_keys,
    source_of,
)
from jasper_rag.training.training_pairs import training_pairs

CPU = torch.device("cpu")


def collected(source: BatchSource, epoch: int, start: int = 0) -> list[dict[str, Tensor]]:
    return list(source.epoch(epoch, start))


def equal(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
        for left, right in zip(one, other, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["sources", "batch", "hard"])
def test_gathered_batches_are_those_of_the_loader(steering_root: Path, negatives: str) -> None:
    loss = LossConfig(negatives=negatives)
    loader = create_loader(steering_root, "train", 8, seed=3)
    source = source_of(loader, loss, CPU)
    assert isinstance(source, DatasetBatches)
    assert len(source) == 5
    plain = LoaderBatches(create_loader(steering_root, "train", 8, seed=3), CPU)
    for epoch in (0, 2):
        for ours, theirs in zip(source.epoch(epoch), plain.epoch(epoch), strict=True):
            wanted = needed_keys(loss) - {"target_rows", "negative_rows"}
            assert set(ours) == wanted | {"target_rows", "known_positives"} | (
                set() if negatives == "sources" else {"negative_rows"}
            )
            for key in wanted:
                assert torch.equal(ours[key], theirs[key]), key
            assert source.sources is not None
            assert torch.equal(source.sources[ours["target_rows"]], ours["target_source_emb"])
            assert (ours["known_positives"] == ours["target_rows"].unsqueeze(1)).any(dim=1).all()
            if negatives != "sources":
                inside = ours["negative_rows"] < len(source.sources)
                found = source.sources[ours["negative_rows"][inside]]
                assert torch.equal(found, ours["negative_embs"][inside])
    assert source.centroids is not None
    assert source.centroids.shape == (3, 8)


@pytest.mark.slow
def test_any_start_gives_the_rest(steering_root: Path) -> None:
    for size in (8, 16, 100):
        source = source_of(create_loader(steering_root, "train", size), LossConfig(), CPU)
        whole = collected(source, 1)
        for start in range(len(whole) + 2):
            assert equal(collected(source, 1, start), whole[start:])
        assert not equal(whole, collected(source, 0))


def test_another_reader_of_the_same_dataset_changes_nothing(steering_root: Path) -> None:
    dataset = JASPERSteeringDataset(steering_root, "train", seed=0)
    source, other = (source_of(create_loader(dataset, "train", 8), LossConfig(), CPU) for _ in range(2))
    whole = collected(source, 60)
    batches = source.epoch(60)
    disturbed = [next(batches)]
    collected(other, 0)
    assert equal(disturbed + list(batches), whole)


def test_balanced_batches_have_every_cluster_equally_often(steering_root: Path) -> None:
    loader = create_loader(steering_root, "train", 6, balanced="cluster")
    for batch in source_of(loader, LossConfig(), CPU).epoch(0):
        assert set(Counter(batch["cluster_id"].tolist()).values()) == {2}


def test_only_what_a_stage_looks_at_is_gathered() -> None:
    alone = {"lambda_contrastive": 0, "lambda_centroid": 0, "lambda_vicreg": 0}
    always = {"question_emb", "relevance", "steering", "steering_variant", "target_source_emb", "cluster_id"}
    assert needed_keys(LossConfig(**alone)) == always
    later = LossConfig(**alone, stages=[{"from_epoch": 3, "lambda_centroid": 0.1}])
    assert needed_keys(later) == always
    hard = LossConfig(**alone | {"lambda_contrastive": 1}, negatives="hard")
    assert needed_keys(hard) == always | {"target_rows", "negative_embs", "negative_rows"}


class Drawn(Dataset[dict[str, Any]]):
    """Samples that draw a number when they are read."""

    centroid_embs = [[1.0, 2.0]]  # noqa: RUF012

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"question_emb": torch.full((2,), float(row)), "noise": torch.rand(()), "id": f"q{row}"}


@pytest.mark.parametrize("own", [False, True])
def test_what_a_loader_draws_is_a_function_of_the_epoch(own: bool) -> None:
    generator = torch.Generator().manual_seed(5) if own else None
    source = LoaderBatches(DataLoader(Drawn(), batch_size=3, shuffle=True, generator=generator), CPU, seed=4)
    before = torch.random.get_rng_state()
    whole = collected(source, 0)
    torch.rand(3)
    assert set(whole[0]) == {"question_emb", "noise"}
    assert sorted(torch.cat([batch["question_emb"][:, 0] for batch in whole]).tolist()) == list(range(10))
    assert equal(collected(source, 0), whole)
    assert equal(collected(source, 0, 2), whole[2:])
    assert not equal(collected(source, 1), whole)
    other = LoaderBatches(DataLoader(Drawn(), batch_size=3, shuffle=True), CPU, seed=5)
    assert not equal(collected(other, 0), whole)
    torch.random.set_rng_state(before)
    list(source.epoch(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_centroids_come_from_whatever_a_loader_says() -> None:
    loader = DataLoader(Subset(Drawn(), [1, 2]), batch_size=1)
    assert isinstance(dataset_of(loader), Drawn)
    source = source_of(loader, None, CPU)
    assert source.centroids is not None
    assert source.centroids.tolist() == [[1, 2]]
    assert source_of([{}], None, CPU).centroids is None
    array = type("Loader", (list,), {"dataset_obj": type("Given", (), {"centroid_embs": np.eye(2)})})
    found = source_of(array(), None, CPU).centroids
    assert found is not None
    assert found.dtype == torch.float32
    assert source_of(source, None, CPU) is source


def test_a_sampler_that_counts_epochs_is_told(steering_root: Path) -> None:
    sampler: torch.utils.data.DistributedSampler[Any] = torch.utils.data.DistributedSampler(
        Drawn(), num_replicas=1, rank=0
    )
    source = LoaderBatches(DataLoader(Drawn(), batch_size=5, sampler=sampler), CPU)
    list(source.epoch(7))
    assert sampler.epoch == 7
    dataset = JASPERSteeringDataset(steering_root, "train")
    list(LoaderBatches(DataLoader(Subset(dataset, [0, 1]), batch_size=2), CPU).epoch(4))
    assert dataset.current_epoch == 4


def test_a_dataset_on_disk_is_read_by_its_loader(steering_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    loader = create_loader(steering_root, "train", 8, use_mmap=True)
    with caplog.at_level(logging.INFO, "jasper_rag"):
        source = source_of(loader, LossConfig(), CPU)
    assert "not all sources" in caplog.text
    assert isinstance(source, LoaderBatches)
    assert source.sources is None
    whole = collected(source, 0)
    assert equal(collected(source, 0, 3), whole[3:])


def test_groups() -> None:
    batches = [{"row": torch.tensor([row])} for row in range(5)]
    assert [[int(batch["row"]) for batch in group] for group in grouped(batches, 2)] == [[0, 1], [2, 3], [4]]
    assert list(grouped([], 3)) == []


def test_pairs_come_in_a_fresh_permutation_without_its_short_rest(turned: EmbeddedSet) -> None:
    pairs = training_pairs(turned)
    source = PairBatches(pairs, 50, seed=0)
    assert len(source) == 2
    passes = [[batch["target_rows"] for batch in source.epoch(epoch)] for epoch in range(3)]
    rows = [torch.cat(batches).tolist() for batches in passes]
    assert all(len(set(each)) == 100 and set(each) <= set(range(120)) for each in rows)
    assert rows[0] != rows[1] != rows[2]
    assert equal(collected(source, 1, 1), collected(source, 1)[1:])
    (batch,) = PairBatches(pairs, 512, seed=0).epoch(0)
    assert sorted(batch["target_rows"].tolist()) == list(range(120))
    assert set(batch) == {"question_emb", "relevance", "target_rows", "known_positives"}
    assert torch.equal(batch["question_emb"], pairs.questions[pairs.pairs[batch["target_rows"], 0]])


def test_pairs_are_steered_to_their_centroids_for_a_share(turned: EmbeddedSet) -> None:
    pairs = training_pairs(turned)
    clusters, centroids = np.arange(len(pairs)) % 2, torch.eye(16)[:2]
    source = PairBatches(
        pairs, 120, 0, clusters=clusters, centroids=centroids, curriculum=Curriculum((0.5, 0.5, 0.0, 0.0))
    )
    (batch,) = source.epoch(0)
    guided = batch["steering_variant"] == 1
    assert 30 < int(guided.sum()) < 90
    assert not batch["steering"][~guided].any()
    wanted = torch.nn.functional.normalize(centroids[batch["cluster_id"]] - batch["question_emb"], dim=1)
    torch.testing.assert_close(batch["steering"][guided], wanted[guided], atol=1e-5, rtol=1e-5)
