from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from jasper_rag.data.batch import BATCH_KEYS
from jasper_rag.data.curriculum import draw_variants
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError

VARIANTS = ("zero", "centroid", "keyword", "residual")


def batch_of(dataset: JASPERSteeringDataset, indices: Sequence[int] | None = None) -> dict[str, Tensor]:
    return dataset.__getitems__(list(range(len(dataset)) if indices is None else indices)).tensors


def assert_is_reference(batch: dict[str, Tensor], made: Any, pairs: Sequence[int], variants: Sequence[int]) -> None:
    for place, (pair, variant) in enumerate(zip(pairs, variants, strict=True)):
        for key, expected in made.sample(pair, variant).items():
            torch.testing.assert_close(batch[key][place], expected, rtol=1e-5, atol=1e-6, msg=f"{key} of pair {pair}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_are_what_a_plain_reader_gives(make: Callable[..., Any], kind: str, variant: str) -> None:
    made = make(kind)
    dataset = JASPERSteeringDataset(made.root, "train")
    dataset.force_steering(variant)
    pairs = made.tensors["train_idx"].tolist()
    batch = batch_of(dataset)
    assert tuple(batch) == BATCH_KEYS
    assert_is_reference(batch, made, pairs, [VARIANTS.index(variant)] * len(pairs))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
def test_variants_are_drawn_by_the_curriculum(make: Callable[..., Any], kind: str) -> None:
    made = make(kind)
    dataset = JASPERSteeringDataset(made.root, "train", epoch=4)
    rows = made.tensors["train_idx"].numpy()
    shares = (0.54, *[0.46 / 3] * 3)
    assert tuple(dataset.steering_probs.values()) == pytest.approx(shares)
    drawn = draw_variants(42, 4, rows, dataset.curriculum.probabilities(4)).tolist()
    assert set(drawn) == {0, 1, 2, 3}
    assert_is_reference(batch_of(dataset), made, rows.tolist(), drawn)


def test_dtypes_and_shapes(ours: Any) -> None:
    batch = batch_of(JASPERSteeringDataset(ours.root, "val"))
    shapes = {key: (str(tensor.dtype)[6:], tuple(tensor.shape)) for key, tensor in batch.items()}
    assert shapes == {
        "question_emb": ("float32", (4, 6)),
        "target_source_emb": ("float32", (4, 6)),
        "steering": ("float32", (4, 6)),
        "negative_embs": ("float32", (4, 3, 6)),
        "cluster_id": ("int64", (4,)),
        "relevance": ("float32", (4,)),
        "centroid_distance": ("float32", (4,)),
        "steering_variant": ("int64", (4,)),
        "negative_tiers": ("int64", (4, 3)),
    }


def test_a_sample_does_not_depend_on_its_batch(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train", epoch=2)
    whole = batch_of(dataset)
    for size in (1, 5, 32):
        for start in range(0, len(dataset), size):
            part = batch_of(dataset, range(start, min(start + size, len(dataset))))
            assert all(torch.equal(part[key], whole[key][start : start + size]) for key in whole)
    again = JASPERSteeringDataset(ours.root, "train", epoch=2)
    assert all(torch.equal(again[7][key], whole[key][7]) for key in whole)


@pytest.mark.slow
def test_seed_and_epoch_change_the_variants(ours: Any) -> None:
    def variants(**arguments: Any) -> list[int]:
        return batch_of(JASPERSteeringDataset(ours.root, "train", **arguments))["steering_variant"].tolist()

    assert variants() == variants(seed=42) != variants(seed=1)
    assert variants(epoch=10) != variants(epoch=11)
    dataset = JASPERSteeringDataset(ours.root, "train")
    dataset.set_epoch(11)
    assert batch_of(dataset)["steering_variant"].tolist() == variants(epoch=11)
    assert dataset.current_epoch == 11


def test_forcing_ends_with_none(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    before = batch_of(dataset)["steering_variant"]
    dataset.force_steering("residual")
    assert set(batch_of(dataset)["steering_variant"].tolist()) == {3}
    dataset.force_steering(None)
    assert torch.equal(batch_of(dataset)["steering_variant"], before)
    with pytest.raises(InputError, match="'none'; there are zero, centroid, keyword, residual"):
        dataset.force_steering("none")


@pytest.mark.slow
def test_without_a_direction_steering_is_zero(make: Callable[..., Any]) -> None:
    made = make("ours")
    questions = made.tensors["question_embs"].clone()
    questions[made.tensors["pair_index"][:, 0]] = made.tensors["centroid_embs"][0]
    still = make("ours", name="still", question_embs=questions, pair_cluster_id=torch.zeros(40, dtype=torch.int64))
    dataset = JASPERSteeringDataset(still.root, "val")
    for variant in ("centroid", "residual"):
        dataset.force_steering(variant)
        assert torch.equal(batch_of(dataset)["steering"], torch.zeros(4, 6))


def test_settings_of_steering(make: Callable[..., Any]) -> None:
    settings = {"steering_fallback_strategy": "zero", "steering_normalize_residual": True}
    made = make("ours", settings=settings)
    dataset = JASPERSteeringDataset(made.root, "train")
    dataset.force_steering("residual")
    assert torch.allclose(batch_of(dataset)["steering"].norm(dim=1), torch.ones(32))
    dataset.force_steering("keyword")
    bare = [place for place, pair in enumerate(made.tensors["train_idx"].tolist()) if not made.keywords[pair]]
    assert bare
    assert torch.equal(batch_of(dataset, bare)["steering"], torch.zeros(len(bare), 6))


@pytest.mark.parametrize("index", [-1, 32, 10**6])
def test_an_index_outside_the_split_is_refused(ours: Any, index: int) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    with pytest.raises(IndexError, match=f"sample {index}; the train split has 0 to 31"):
        dataset[index]
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])


def test_indices_may_be_arrays_and_tensors(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    for indices in (np.array([3, 1]), torch.tensor([3, 1]), (3, 1)):
        assert torch.equal(dataset.__getitems__(indices).tensors["cluster_id"], batch_of(dataset, [3, 1])["cluster_id"])
    assert len(dataset.__getitems__([])) == 0


def test_a_plain_data_loader_serves_whole_batches(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    expected = batch_of(dataset)
    batches = list(DataLoader(dataset, batch_size=10, shuffle=False))
    assert [len(batch["relevance"]) for batch in batches] == [10, 10, 10, 2]
    assert all(torch.equal(torch.cat([batch[key] for batch in batches]), expected[key]) for key in expected)
    part = next(iter(DataLoader(Subset(dataset, [5, 6]), batch_size=2)))
    assert torch.equal(part["steering"], expected["steering"][5:7])


def test_batches_kept_stay_as_they_were(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    kept = [batch for _ in range(5) for batch in DataLoader(dataset, batch_size=8)]
    expected = batch_of(dataset)["negative_embs"]
    assert torch.equal(torch.cat([batch["negative_embs"] for batch in kept]), expected.repeat(5, 1, 1))


def test_splits_share_one_copy(ours: Any) -> None:
    splits = JASPERSteeringDataset.create_combined_splits(ours.root, epoch=3)
    assert {name: len(split) for name, split in splits.items()} == {"train": 32, "val": 4, "test": 4}
    assert len({split.source_embs.data_ptr() for split in splits.values()}) == 1
    splits["val"].force_steering("zero")
    splits["val"].set_epoch(9)
    assert (splits["train"].current_epoch, splits["val"].current_epoch) == (3, 9)
    assert set(batch_of(splits["train"])["steering_variant"].tolist()) != {0}


def test_memory_is_what_the_tensors_take(ours: Any, original: Any) -> None:
    for made in (ours, original):
        dataset = JASPERSteeringDataset(made.root, "train")
        lists = dataset.pair_keyword_ids
        expected = sum(tensor.nbytes for tensor in made.tensors.values()) + lists.values.nbytes + lists.offsets.nbytes
        assert dataset.memory_usage_mb * 2**20 == pytest.approx(expected, rel=0.05)


def test_attributes(ours: Any) -> None:
    dataset = JASPERSteeringDataset(str(ours.root), "val")
    assert (dataset.embedding_dim, dataset.n_neg, dataset.device, len(dataset)) == (6, 3, torch.device("cpu"), 4)
    assert dataset.config == ours.config
    for name in ("centroid_embs", "source_embs", "question_embs", "keyword_embs", "pair_index", "hard_negatives"):
        assert torch.equal(getattr(dataset, name), ours.tensors[name])
    assert torch.equal(dataset.negative_tiers, ours.tensors["negative_tiers"])
    assert torch.equal(dataset.split_indices, ours.tensors["val_idx"])
    assert dataset.pair_keyword_ids.to_lists() == ours.keywords


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_everything_lands_on_the_device(make: Callable[..., Any], kind: str, device: str | torch.device) -> None:
    # "meta" stands in for a GPU: mixing devices in one operation is an error there too.
    dataset = JASPERSteeringDataset(make(kind).root, "train", device=device)
    assert dataset.device == torch.device("meta")
    for variant in (None, *VARIANTS):
        dataset.force_steering(variant)
        assert {tensor.device.type for tensor in batch_of(dataset).values()} == {"meta"}


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu(ours: Any) -> None:
    expected = batch_of(JASPERSteeringDataset(ours.root, "train"))
    with JASPERSteeringDataset(ours.root, "train", device="cuda") as dataset:
        dataset.reload_negatives()
        batch = next(iter(DataLoader(dataset, batch_size=32)))
    for key, tensor in batch.items():
        assert tensor.device.type == "cuda"
        torch.testing.assert_close(tensor.cpu(), expected[key])


def test_a_device_that_is_not_there_is_refused(ours: Any) -> None:
    with pytest.raises(InputError, match="device 'cuda:63' cannot be used"):
        JASPERSteeringDataset(ours.root, "train", device="cuda:63")


def test_leaving_the_context_logs_and_lets_go(ours: Any, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="jasper_rag"),
        JASPERSteeringDataset(ours.root, "train", epoch=10) as dataset,
    ):
        assert len(batch_of(dataset)["relevance"]) == 32
    assert "train split" in caplog.text
    assert "32 pairs" in caplog.text
    assert "on cpu, epoch 10 (zero 0.300, centroid 0.233" in caplog.text
    with pytest.raises(ValueError, match="closed"):
        dataset[0]


@pytest.mark.slow
def test_mapped_embeddings_take_no_memory(ours: Any, original: Any) -> None:
    for made in (ours, original):
        read = JASPERSteeringDataset(made.root, "train")
        mapped = JASPERSteeringDataset(made.root, "train", use_mmap=True)
        held = {name for name in made.tensors if name.endswith("_embs") or name.startswith("steering_")}
        assert mapped.tensors.mapped == held
        assert mapped.memory_usage_mb < read.memory_usage_mb
        with open("/proc/self/maps", encoding="utf-8") as maps:
            assert str(made.root / "source_embs") in maps.read()
        expected = batch_of(read)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in batch_of(mapped).items())
        assert not any("hard_negatives" in name for name in mapped.tensors.mapped)


@pytest.mark.parametrize("use_mmap", [False, True])
def test_a_dataset_can_be_sent_to_another_process(ours: Any, use_mmap: bool) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train", epoch=5, use_mmap=use_mmap)
    sent = pickle.dumps(dataset)
    received = pickle.loads(sent)
    assert all(torch.equal(batch_of(received)[key], tensor) for key, tensor in batch_of(dataset).items())
    assert len(pickle.dumps(dataset.tensors)) < 30_000
    assert torch.equal(copy.deepcopy(dataset)[3]["steering"], dataset[3]["steering"])


def test_a_mapped_file_that_is_gone_is_named(ours: Any) -> None:
    sent = pickle.dumps(JASPERSteeringDataset(ours.root, "train", use_mmap=True))
    (ours.root / "source_embs.safetensors").unlink()
    with pytest.raises(InputError, match="source_embs was mapped from here and is gone"):
        pickle.loads(sent)


def test_bad_arguments(ours: Any) -> None:
    with pytest.raises(InputError, match="'dev'; there are train, val, test"):
        JASPERSteeringDataset(ours.root, "dev")
    with pytest.raises(InputError, match="no such directory"):
        JASPERSteeringDataset(ours.root / "nothing", "train")
    with pytest.raises(InputError, match="'csv'; auto, safetensors, pt and hdf5"):
        JASPERSteeringDataset(ours.root, "train", storage_format="csv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"there is no dataset\.h5"):
        JASPERSteeringDataset(ours.root, "train", storage_format="hdf5")
    with pytest.raises(InputError, match="served from the CPU"):
        JASPERSteeringDataset(ours.root, "train", device="meta", use_mmap=True)
    with pytest.raises(ValueError, match="from 0, got -2"):
        JASPERSteeringDataset(ours.root, "train", epoch=-2)
