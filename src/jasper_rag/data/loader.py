"""`DataLoader`s over a steering dataset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from jasper_rag.data.batch import BATCH_KEYS, Batch, SteeringSample
from jasper_rag.data.dataset_directory import StorageFormat
from jasper_rag.data.epoch_sampler import EpochSampler
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.dataset_layout import TIERS, VARIANTS
from jasper_rag.errors import InputError


class SteeringLoader(DataLoader[SteeringSample]):
    """A `DataLoader` that knows its dataset; iterating gives `Batch` dictionaries."""

    dataset_obj: JASPERSteeringDataset
    """The dataset, for `set_epoch`, `force_steering` and `reload_negatives`."""
    sampler_obj: EpochSampler
    """The sampler, for going on in the middle of an epoch."""


def create_loader(
    dataset_dir: str | Path | JASPERSteeringDataset,
    split: str,
    batch_size: int,
    num_workers: int = 0,
    distributed: bool = False,
    epoch: int = 0,
    drop_last: bool | None = None,
    pin_memory: bool | None = None,
    *,
    device: torch.device | str | None = None,
    storage_format: StorageFormat = "auto",
    use_mmap: bool | None = None,
    seed: int | None = None,
    verify: bool | None = None,
    persistent_workers: bool | None = None,
    multiprocessing_context: str | None = None,
    balanced: Literal["cluster"] | None = None,
) -> SteeringLoader:
    """Open one split of a dataset directory and serve it in batches; the train split is shuffled.

    Args:
        dataset_dir: The directory, or a dataset already opened (then its own split, device and seed hold).
        split: "train", "val" or "test".
        batch_size: Samples in a batch.
        num_workers: Processes that make batches; 0 makes them in this one, which is fastest for sets in memory.
        distributed: Serve this process's share only, by `torch.distributed`'s rank. Ranks see disjoint samples; of the
            train split all ranks get equally many.
        epoch: First epoch.
        drop_last: Leave out a last batch that is not full; None: for the train split, if it fills one batch.
        pin_memory: Put batches into page-locked memory, where there is a GPU and the dataset is not on it; None: do.
        device: As for `JASPERSteeringDataset`; so are `storage_format`, `use_mmap`, `seed` and `verify`.
        storage_format: See there.
        use_mmap: See there.
        seed: See there.
        verify: See there.
        persistent_workers: Keep workers between epochs; None: keep them.
        multiprocessing_context: "fork", "spawn" or "forkserver"; None: the platform's own.
        balanced: "cluster": batches of the train split have equally many samples of every cluster, give or take one,
            which keeps a router from sending everything to the large ones. An epoch is as long as without; samples of
            small clusters come several times in it, of large ones not all. Other splits stay as they are.

    Raises:
        InputError: As for `JASPERSteeringDataset`; workers are asked for a dataset on a GPU; or another `balanced`.
        ValueError: `distributed` without an initialised process group, or a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, at least 1 is needed")
    dataset = _dataset(dataset_dir, split, epoch, device, storage_format, use_mmap, seed, verify)
    on_cpu = dataset.device.type == "cpu"
    if num_workers and not on_cpu:
        problem = f"num_workers={num_workers} with a dataset on {dataset.device}"
        raise InputError(problem, remedy="A dataset on a device needs no workers: leave num_workers at 0.")
    if balanced not in (None, "cluster"):
        raise InputError(f"balanced={balanced!r}", remedy='Give "cluster", or leave it out.')
    rank, world_size = _place_among_processes() if distributed else (0, 1)
    training = split == "train"
    evenly = training and balanced is not None
    sampler = EpochSampler(dataset, training, rank, world_size, even=training, balanced=evenly)
    loader = SteeringLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        drop_last=training and len(sampler) >= batch_size if drop_last is None else drop_last,
        pin_memory=on_cpu and pin_memory is not False and torch.cuda.is_available(),
        persistent_workers=num_workers > 0 and persistent_workers is not False,
        multiprocessing_context=multiprocessing_context if num_workers else None,
    )
    loader.dataset_obj, loader.sampler_obj = dataset, sampler
    return loader


def create_loaders(
    dataset_dir: str | Path, batch_size: int, splits: Iterable[str] | None = None, **settings: Any
) -> dict[str, SteeringLoader]:
    """Loaders of several splits over one copy of the tensors.

    Args:
        dataset_dir: The directory.
        batch_size: Samples in a batch.
        splits: Their names; None: all there are.
        **settings: Of `create_loader`.

    Raises:
        InputError: As for `create_loader`.
    """
    opening = {key: settings.pop(key) for key in _OPENING if key in settings}
    datasets = JASPERSteeringDataset.create_combined_splits(dataset_dir, settings.pop("epoch", 0), **opening)
    wanted = list(datasets) if splits is None else list(splits)
    missing = [split for split in wanted if split not in datasets]
    if missing:
        remedy = f"There are: {', '.join(datasets)}."
        raise InputError(f"this dataset has no {missing[0]} split", remedy=remedy, path=dataset_dir)
    return {split: create_loader(datasets[split], split, batch_size, **settings) for split in wanted}


_OPENING = ("device", "storage_format", "use_mmap", "seed", "verify")


def set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Set the epoch of a loader's dataset, and of its sampler where that counts epochs itself.

    Works for loaders of `create_loader` and for a plain `DataLoader` over a `JASPERSteeringDataset`.

    Raises:
        ValueError: The epoch is negative, or the loader's dataset counts no epochs.
    """
    dataset: Any = loader.dataset
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if not hasattr(dataset, "set_epoch"):
        raise ValueError(f"a loader over {type(dataset).__name__}, which counts no epochs")
    dataset.set_epoch(epoch)
    sampler: Any = loader.sampler
    if hasattr(sampler, "set_epoch"):  # an EpochSampler sets its dataset's again; torch's DistributedSampler its own
        sampler.set_epoch(epoch)


def validate_first_batch(loader: DataLoader[Any]) -> bool:
    """Check the first batch of a loader: keys, shapes, dtypes, devices, finiteness and ranges.

    The batch is made in this process; neither workers nor random numbers are used up.

    Returns:
        True.

    Raises:
        ValueError: Something is wrong with it; the message names the key.
    """
    dataset = loader.dataset
    if not isinstance(dataset, JASPERSteeringDataset) or loader.batch_sampler is None:
        raise ValueError(f"a loader in batches over JASPERSteeringDataset is needed, got {type(dataset).__name__}")
    with torch.random.fork_rng(devices=[]):
        indices = next(iter(loader.batch_sampler), None)
    if indices is None:
        raise ValueError(f"the loader has no batch: {len(dataset)} samples, batches of {loader.batch_size}")
    samples: Any = dataset.__getitems__(indices)
    check_batch(loader.collate_fn(samples), dataset)
    return True


def check_batch(batch: Batch, dataset: JASPERSteeringDataset) -> None:
    """Check a batch of a dataset.

    Raises:
        ValueError: A key is missing or unknown, or a tensor is not what its key says.
    """
    if set(batch) != set(BATCH_KEYS):
        raise ValueError(f"a batch has the keys {sorted(batch)}, expected {sorted(BATCH_KEYS)}")
    count, dimension, negatives = len(batch["cluster_id"]), dataset.embedding_dim, dataset.n_neg
    vectors = (count, dimension)
    _check(batch, dataset, ("question_emb", "target_source_emb", "steering"), vectors, torch.float32)
    _check(batch, dataset, ("negative_embs",), (count, negatives, dimension), torch.float32)
    _check(batch, dataset, ("relevance",), (count,), torch.float32, 0, 1)
    _check(batch, dataset, ("centroid_distance",), (count,), torch.float32, 0, 2)
    _check(batch, dataset, ("cluster_id",), (count,), torch.int64, 0, len(dataset.centroid_embs) - 1)
    _check(batch, dataset, ("steering_variant",), (count,), torch.int64, 0, len(VARIANTS) - 1)
    _check(batch, dataset, ("negative_tiers",), (count, negatives), torch.int64, *TIERS)


def _check(
    batch: Batch,
    dataset: JASPERSteeringDataset,
    keys: Iterable[str],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    low: float = -torch.inf,
    high: float = torch.inf,
) -> None:
    for key in keys:
        tensor: Tensor = batch[key]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != dataset.device.type:
            form = f"{list(tensor.shape)}, {tensor.dtype}, on {tensor.device}"
            raise ValueError(f"{key} is {form}; expected {list(shape)}, {dtype}, on {dataset.device}")
        slack = 1e-4 if dtype.is_floating_point else 0
        sound = torch.isfinite(tensor) & (tensor >= low - slack) & (tensor <= high + slack)
        if not bool(sound.all()):
            raise ValueError(f"{key} holds {tensor[~sound][0].item()}; allowed are finite numbers {low} to {high}")


def _dataset(
    given: str | Path | JASPERSteeringDataset, split: str, epoch: int, device: torch.device | str | None, *settings: Any
) -> JASPERSteeringDataset:
    if isinstance(given, JASPERSteeringDataset):
        if given.split != split:
            raise ValueError(f"split {split!r} asked for, but the dataset given is of the {given.split} split")
        return given
    storage_format, use_mmap, seed, verify = settings
    return JASPERSteeringDataset(given, split, epoch, device, storage_format, use_mmap, seed=seed, verify=verify)


def _place_among_processes() -> tuple[int, int]:
    """Rank and number of processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise ValueError("distributed=True needs torch.distributed.init_process_group() first")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
