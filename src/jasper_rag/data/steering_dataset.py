"""`JASPERSteeringDataset`: one split of a dataset directory, served in ready batches."""

from __future__ import annotations

import logging
import operator
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from jasper_rag.data.batch import Batch, PreparedBatch, SteeringSample
from jasper_rag.data.batch_memory import BatchMemory
from jasper_rag.data.conversion import convert_pt_to_hdf5
from jasper_rag.data.curriculum import draw_variants
from jasper_rag.data.dataset_directory import StorageFormat, open_dataset, reload_negatives
from jasper_rag.data.gathering import gathered
from jasper_rag.data.shared_tensors import shared_copy
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.data.tensor_views import TensorViews
from jasper_rag.dataset_layout import SPLITS, VARIANTS
from jasper_rag.embedding.device import present_device
from jasper_rag.errors import InputError

_LOG = logging.getLogger(__name__)
_UNFORCED = -1


class JASPERSteeringDataset(TensorViews, Dataset[SteeringSample]):
    """One split of a steering dataset.

    A sample is a pair of a question and one of its sources, with a steering vector whose kind is drawn by the
    curriculum of the epoch. The kind is a pure function of (seed, epoch, pair): workers, ranks, batch size, order and
    a resumed run make no difference. `set_epoch`, `force_steering` and `reload_negatives` reach workers that already
    run, persistent ones included.

    `dataset[i]` is a sample; a `DataLoader` fetches whole batches at once. Keys and shapes of a batch (float32 and
    int64): `question_emb [B, D]`, `target_source_emb [B, D]`, `steering [B, D]`, `negative_embs [B, N, D]`,
    `cluster_id [B]`, `relevance [B]`, `centroid_distance [B]`, `steering_variant [B]` (position in `VARIANTS`),
    `negative_tiers [B, N]`.

    Args:
        dataset_dir: A directory as `jasper_rag.dataset_layout` describes it, ours or the original project's.
        split: "train", "val" or "test".
        epoch: First epoch, from 0.
        device: Where all tensors are placed at load, e.g. "cuda"; None: the CPU.
        storage_format: "auto", "safetensors", "pt" or "hdf5".
        use_mmap: Leave embeddings on disk; None: where they fill more than half of the memory.
        seed: Of the drawn variants; None: `random_seed` of config.json.
        verify: Compare the files with `checksums.json`, or `.pt` files with their CRCs; None: unless they are mapped.
        tensors: An opened directory to serve from, instead of opening `dataset_dir` again.

    Raises:
        InputError: Something in the directory is missing or wrong (file, row, value and limit are named), the split
            does not exist, or the device cannot be used.

    Warns:
        DatasetWarning: The directory has faults that can be served, with their counts.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        split: str,
        epoch: int = 0,
        device: torch.device | str | None = None,
        storage_format: StorageFormat = "auto",
        use_mmap: bool | None = None,
        *,
        seed: int | None = None,
        verify: bool | None = None,
        tensors: SteeringTensors | None = None,
    ) -> None:
        if split not in SPLITS:
            raise InputError(f"split {split!r}; there are {', '.join(SPLITS)}", remedy="Name one of them.")
        if tensors is None:
            tensors = open_dataset(dataset_dir, present_device(device), storage_format, use_mmap, verify)
        if split not in tensors.splits:
            remedy = f"Use one of: {', '.join(tensors.splits)}."
            raise InputError(f"this dataset has no {split} split", remedy=remedy, path=tensors.root)
        self.split = split
        self.seed = tensors.config.random_seed if seed is None else seed
        self.curriculum = tensors.config.schedule()
        self._opened: SteeringTensors | None = tensors
        # A copy: sending a tensor to a spawned worker moves its memory, and a view would be left behind.
        self._rows: NDArray[np.int64] = tensors.splits[split].numpy().copy()
        # Epoch and forced variant.
        self._control = shared_copy(torch.tensor([0, _UNFORCED]))
        self._drawn: tuple[int, NDArray[np.uint8]] | None = None
        self._memory: defaultdict[str, BatchMemory] = defaultdict(BatchMemory)
        self.set_epoch(epoch)

    @classmethod
    def create_combined_splits(
        cls,
        dataset_dir: str | Path,
        epoch: int = 0,
        device: torch.device | str | None = None,
        storage_format: StorageFormat = "auto",
        use_mmap: bool | None = None,
        *,
        seed: int | None = None,
        verify: bool | None = None,
    ) -> dict[str, JASPERSteeringDataset]:
        """The datasets of all splits there are, over one copy of the tensors; arguments as for the class.

        Raises:
            InputError: As for the class; a missing test split is a `DatasetWarning` only.
        """
        opened = open_dataset(dataset_dir, present_device(device), storage_format, use_mmap, verify)
        return {split: cls(dataset_dir, split, epoch, seed=seed, tensors=opened) for split in opened.splits}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> SteeringSample:
        """One sample.

        Raises:
            IndexError: The index is negative or too large.
        """
        sample: SteeringSample = self.__getitems__([operator.index(index)])[0]
        return sample

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64] | Tensor) -> PreparedBatch:
        """The batch of these samples; what a `DataLoader` calls.

        Raises:
            IndexError: An index is negative or too large.
        """
        places = self._places(indices)
        return PreparedBatch(self._batch(self._rows[places], self._variants(places)))

    def gather(self, indices: Sequence[int] | NDArray[np.int64] | Tensor, keys: Collection[str]) -> Batch:
        """The batch of these samples with some of its keys only: embeddings that nobody asks for are not copied.

        Args:
            indices: Samples, [B].
            keys: Of `BATCH_KEYS`; `negative_rows` gives the negatives' source rows, int64 [B, N].

        Raises:
            IndexError: An index is negative or too large.
            KeyError: There is no such key.
        """
        places = self._places(indices)
        return gathered(self.tensors, self._rows[places], self._variants(places), keys)

    def _places(self, indices: Sequence[int] | NDArray[np.int64] | Tensor) -> NDArray[np.int64]:
        places = np.asarray(indices, dtype=np.int64)
        if places.size and not 0 <= places.min() <= places.max() < len(self._rows):
            bad = places[(places < 0) | (places >= len(self._rows))][0]
            raise IndexError(f"sample {bad}; the {self.split} split has 0 to {len(self._rows) - 1}")
        return places

    def _batch(self, rows: NDArray[np.int64], variants: NDArray[np.int64]) -> Batch:
        opened = self.tensors
        held = opened.tensors
        pairs = torch.from_numpy(rows).to(opened.device)
        sides = held["pair_index"].index_select(0, pairs)
        clusters = held["pair_cluster_id"].index_select(0, pairs)
        negatives, tiers = opened.negatives.take(pairs)
        room = self._room(*negatives.shape)
        questions = torch.index_select(held["question_embs"], 0, sides[:, 0], out=room["question"])
        hard = torch.index_select(held["source_embs"], 0, negatives.view(-1), out=room["negatives"])
        return {
            "question_emb": questions,
            "target_source_emb": torch.index_select(held["source_embs"], 0, sides[:, 1], out=room["target"]),
            "steering": opened.steering(rows, questions, clusters, variants, room["steering"]),
            "negative_embs": hard.view(*negatives.shape, self.embedding_dim),
            "cluster_id": clusters,
            "relevance": held["pair_relevance"].index_select(0, pairs),
            "centroid_distance": held["centroid_distances"].index_select(0, pairs),
            "steering_variant": torch.from_numpy(variants).to(opened.device),
            "negative_tiers": tiers,
        }

    def _room(self, size: int, count: int) -> dict[str, Tensor]:
        """Tensors for the vectors of a batch: `size` pairs with `count` negatives each."""
        rows = {"question": size, "target": size, "steering": size, "negatives": size * count}
        # A worker's tensors move to shared memory when they are sent, and cannot be filled again.
        if self.device.type != "cpu" or get_worker_info() is not None:
            return {use: torch.empty(rows[use], self.embedding_dim, device=self.device) for use in rows}
        return {use: self._memory[use].empty(rows[use], self.embedding_dim) for use in rows}

    def _variants(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the steering variant of each sample in the current epoch, int64 [n]."""
        epoch, forced = self._control.tolist()
        if forced != _UNFORCED:
            return np.full(len(places), forced, dtype=np.int64)
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, draw_variants(self.seed, epoch, self._rows, self.curriculum.probabilities(epoch)))
        return self._drawn[1][places].astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the curriculum, in running workers too.

        Raises:
            ValueError: The epoch is negative.
        """
        epoch = operator.index(epoch)
        self.curriculum.probabilities(epoch)
        self._control[0] = epoch

    def force_steering(self, variant: str | None) -> None:
        """Serve one steering variant only, in running workers too; None goes back to the curriculum.

        Args:
            variant: "zero", "centroid", "keyword", "residual" or None.

        Raises:
            InputError: Another name.
        """
        if variant is not None and variant not in VARIANTS:
            raise InputError(
                f"steering variant {variant!r}; there are {', '.join(VARIANTS)}", remedy="Name one of them, or None."
            )
        self._control[1] = _UNFORCED if variant is None else VARIANTS.index(variant)

    def reload_negatives(self) -> bool:
        """Take over `hard_negatives` and `negative_tiers` as they now stand in the directory, in running workers too.

        The newer of `.pt` and `.safetensors` counts. All datasets over the same tensors change together.

        Returns:
            Whether they were exchanged. A file that cannot be read, say because it is being written, leaves the old
            ones in place with a `DatasetWarning`.

        Raises:
            InputError: A whole file does not fit the dataset; the old ones stay.
        """
        return reload_negatives(self.tensors)

    @staticmethod
    def convert_pt_to_hdf5(dataset_dir: str | Path, compression: str | None = "gzip") -> Path:
        """Put `dataset.h5`, with all tensors, into a directory of tensor files; returns its path.

        See `jasper_rag.data.conversion` for other formats.

        Raises:
            InputError: The directory is not sound, or h5py is missing.
        """
        return convert_pt_to_hdf5(dataset_dir, compression)

    def close(self) -> None:
        """Let go of the tensors; reading from this dataset afterwards is a ValueError."""
        self._opened = None

    def __enter__(self) -> JASPERSteeringDataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in self.steering_probs.items())
        _LOG.info(
            "%s split of %s: %d pairs, %.2f MB on %s, epoch %d (%s), negatives exchanged %d times",
            *(self.split, self.tensors.root, len(self), self.memory_usage_mb, self.device, self.current_epoch),
            *(shares, self.tensors.negatives.exchanges),
        )
        self.close()

    @property
    def tensors(self) -> SteeringTensors:
        """Everything read from the directory."""
        if self._opened is None:
            raise ValueError("this dataset is closed; open the directory again")
        return self._opened

    @property
    def current_epoch(self) -> int:
        """Epoch of the curriculum."""
        return int(self._control[0])

    @property
    def steering_probs(self) -> dict[str, float]:
        """Probability of each variant in the current epoch; what `force_steering` forces is left out."""
        return dict(zip(VARIANTS, self.curriculum.probabilities(self.current_epoch), strict=True))

    @property
    def split_indices(self) -> Tensor:
        """Rows of this split's pairs, int64 [n], on the CPU."""
        return self.tensors.splits[self.split]
