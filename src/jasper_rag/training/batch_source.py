"""Where the trainer's batches come from: index batches gathered from tensors in memory, or any loader's own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from jasper_rag.data.batch import BATCH_KEYS, Batch
from jasper_rag.data.counter_random import permutation
from jasper_rag.data.curriculum import Curriculum, draw_variants
from jasper_rag.data.gathering import NEGATIVE_ROWS
from jasper_rag.data.loader import SteeringLoader
from jasper_rag.data.steering import along_the_line
from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.training.dataset_pairs import SplitPairs, split_pairs
from jasper_rag.training.training_pairs import TrainingPairs

_LOG = logging.getLogger(__name__)

# Keys of a batch beside `BATCH_KEYS`: "target_rows" [B], "known_positives" [B, W] and `NEGATIVE_ROWS` [B, N] are rows
# of `BatchSource.sources`; -1 pads.


class BatchSource(Protocol):
    """Batches of one split, in an order that is a function of the epoch alone."""

    sources: Tensor | None
    """All train sources [M, D], where the whole split is at hand."""
    centroids: Tensor | None
    """Cluster centroids [C, D]."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, after the first `start` of them."""


class LoaderBatches:
    """Whatever a loader yields: dictionaries with (some of) the documented keys; what is no tensor is left out.

    What the loader draws from torch's CPU generator, or from one of its own, is a function of (seed, epoch), and
    torch's generator is left as it was: a run that goes on in the middle of an epoch meets the same batches.

    Args:
        loader: Its dataset may carry `centroid_embs`.
        device: Where batches are moved.
        seed: Of what the loader draws.
    """

    def __init__(self, loader: Any, device: torch.device, seed: int = 0) -> None:
        self._loader = loader
        self._device = device
        self._seed = seed
        self.sources: Tensor | None = None
        self.centroids = _centroids(loader, device)

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; skipped ones are read and left out."""
        _set_epoch(self._loader, epoch)
        seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)[0])
        own = getattr(self._loader, "generator", None)
        if own is not None:
            own.manual_seed(seed)
        numbers = torch.Generator().manual_seed(seed).get_state()
        batches: Iterator[Any] | None = None
        for number in range(len(self._loader)):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.set_state(numbers)
                # The order is drawn with the first batch, not with the iterator.
                batches = iter(self._loader) if batches is None else batches
                batch = next(batches, None)
                numbers = torch.default_generator.get_state()
            if batch is None:
                return
            if number >= start:
                tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
                yield {key: tensor.to(self._device, non_blocking=True) for key, tensor in tensors.items()}


class DatasetBatches:
    """Batches gathered from a steering dataset in memory: of each, only what is asked for.

    Args:
        loader: Gives the order and the dataset.
        keys: Of `BATCH_KEYS`, those that are needed.
        pairs: The split with all its sources; None: batches without rows of sources.
        device: Where batches are moved.
    """

    def __init__(
        self, loader: SteeringLoader, keys: frozenset[str], pairs: SplitPairs | None, device: torch.device
    ) -> None:
        self._loader = loader
        self._keys = keys
        self._device = device
        self._pairs = None if pairs is None else pairs.pairs.to(device)
        self._row_of_source = None if pairs is None else pairs.row_of_source.to(device)
        self.sources = None if self._pairs is None else self._pairs.sources
        self.centroids = _centroids(loader, device)

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, after the first `start` of them."""
        _set_epoch(self._loader, epoch)
        sampler, size = self._loader.batch_sampler, self._loader.batch_size
        if sampler is None or size is None:
            raise ValueError("a loader in batches is needed")
        order, dataset = self._loader.sampler_obj, self._loader.dataset_obj
        # The last batch of an epoch, or the last group of batches, may be a small one.
        order.set_position(min(start * size, len(order)))
        for places in sampler:
            if dataset.current_epoch != epoch:  # somebody else has read the same dataset meanwhile
                dataset.set_epoch(epoch)
            found = dataset.gather(places, self._keys)
            batch = {key: tensor.to(self._device, non_blocking=True) for key, tensor in found.items()}
            if self._pairs is not None:
                batch |= _rows(self._pairs, torch.as_tensor(places, device=self._device))
            if NEGATIVE_ROWS in batch and self._row_of_source is not None:
                batch[NEGATIVE_ROWS] = self._row_of_source[batch[NEGATIVE_ROWS]]
            yield batch


class PairBatches:
    """Batches of training pairs, with centroid steering for a share of them where clusters are given.

    Args:
        pairs: The split, with all its sources.
        batch_size: Pairs per batch; the short last batch of an epoch is left out, if it is not the only one.
        seed: Of order and steering.
        clusters: int64 [P], of each pair; None: no steering.
        centroids: [C, D]; None: no steering.
        curriculum: How often each variant is served; keyword and residual are served as zero.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        batch_size: int,
        seed: int,
        *,
        clusters: NDArray[np.int64] | None = None,
        centroids: Tensor | None = None,
        curriculum: Curriculum | None = None,
    ) -> None:
        self._pairs = pairs
        self._size = min(batch_size, len(pairs))
        self._seed = seed
        self._clusters = None if clusters is None else torch.from_numpy(clusters)
        self._curriculum = curriculum
        self.sources: Tensor | None = pairs.sources
        self.centroids = centroids

    def __len__(self) -> int:
        return len(self._pairs) // self._size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, after the first `start` of them."""
        order = permutation(self._seed, epoch, len(self._pairs))
        variants = self._variants(epoch)
        for number in range(start, len(self)):
            rows = torch.from_numpy(order[number * self._size : (number + 1) * self._size])
            yield self._batch(rows, variants)

    def _variants(self, epoch: int) -> NDArray[np.uint8] | None:
        if self._curriculum is None or self._clusters is None:
            return None
        rows = np.arange(len(self._pairs), dtype=np.int64)
        return draw_variants(self._seed, epoch, rows, self._curriculum.probabilities(epoch))

    def _batch(self, rows: Tensor, variants: NDArray[np.uint8] | None) -> Batch:
        pairs = self._pairs
        questions = pairs.questions[pairs.pairs[rows, 0]]
        batch = {"question_emb": questions, "relevance": pairs.relevance[rows], **_rows(pairs, rows)}
        if self._clusters is not None:
            batch["cluster_id"] = self._clusters[rows]
        if variants is not None and self._clusters is not None and self.centroids is not None:
            guided = torch.from_numpy(variants[rows.numpy()].astype(np.int64)) == VARIANTS.index("centroid")
            unit = guided.to(questions.dtype).unsqueeze(1)
            centroids = self.centroids[self._clusters[rows]]
            batch["steering"] = along_the_line(questions, centroids, unit, torch.zeros_like(unit))
            batch["steering_variant"] = guided.to(torch.int64)
        return batch


def source_of(loader: Any, loss: LossConfig | None, device: torch.device, seed: int = 0) -> BatchSource:
    """The batches of whatever a trainer was given.

    A steering dataset in memory is gathered from without workers; one that stays on disk is read by its loader.

    Args:
        loader: A `BatchSource`, a loader of `create_loader`, or any loader with a length.
        loss: What the batches must hold; None: every documented key.
        device: Where they go.
        seed: Of what any other loader draws.
    """
    if not isinstance(loader, DataLoader) and callable(getattr(loader, "epoch", None)):
        source: BatchSource = loader
        return source
    if not isinstance(loader, SteeringLoader):
        return LoaderBatches(loader, device, seed)
    if loader.dataset_obj.tensors.mapped:
        if loss is not None and loss.negatives == "sources" and "target_rows" in needed_keys(loss):
            _LOG.info(
                "the dataset stays on disk: answers are contrasted with batch and hard negatives, not all sources"
            )
        return LoaderBatches(loader, device, seed)
    wanted = frozenset(BATCH_KEYS) if loss is None else needed_keys(loss)
    pairs = split_pairs(loader.dataset_obj) if loss is not None and "target_rows" in wanted else None
    return DatasetBatches(loader, wanted - {"target_rows"}, pairs, device)


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Batches in groups of `size`; the last may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def needed_keys(loss: LossConfig) -> frozenset[str]:
    """Keys of a batch that some stage of a loss looks at."""
    stages = [loss.weights_at(epoch) for epoch in (0, *(stage.from_epoch for stage in loss.stages))]
    used = {name for weights in stages for name, weight in weights.items() if weight > 0}
    keys = {"question_emb", "relevance", "steering", "steering_variant", "target_source_emb", "cluster_id"}
    if "lambda_contrastive" in used:
        keys |= {"target_rows"}
        if loss.negatives != "sources":
            keys |= {"negative_embs", NEGATIVE_ROWS}
    return frozenset(keys)


def _rows(pairs: TrainingPairs, rows: Tensor) -> Batch:
    questions, targets = pairs.pairs[rows].unbind(1)
    return {"target_rows": targets, "known_positives": pairs.known_positives[questions]}


def dataset_of(loader: Any) -> Any:
    """What a loader reads from, whatever part of it; None where it does not say."""
    dataset = getattr(loader, "dataset_obj", None)
    if dataset is None:
        dataset = getattr(loader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _set_epoch(loader: Any, epoch: int) -> None:
    """Tell dataset and sampler, those that count epochs."""
    for counting in (dataset_of(loader), getattr(loader, "sampler", None)):
        if counting is not None and hasattr(counting, "set_epoch"):
            counting.set_epoch(epoch)


def _centroids(loader: Any, device: torch.device) -> Tensor | None:
    """`centroid_embs` of a loader's dataset, whatever it keeps them as."""
    found = getattr(dataset_of(loader), "centroid_embs", None)
    if found is None:
        return None
    return torch.as_tensor(np.asarray(found) if isinstance(found, list) else found).to(device, torch.float32)
