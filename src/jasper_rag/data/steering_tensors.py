"""All tensors of a dataset directory in memory, once, whoever serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.data.dataset_config import DatasetConfig
from jasper_rag.data.keyword_lists import KeywordLists
from jasper_rag.data.negatives import HardNegatives
from jasper_rag.data.steering import along_the_line, keyword_steering
from jasper_rag.data.storage.stored import Storage
from jasper_rag.dataset_layout import NEGATIVE_TENSORS, STEERING_TENSORS, TENSORS, VARIANTS
from jasper_rag.errors import InputError

MEBIBYTE = 1 << 20


@dataclass
class SteeringTensors:
    """The tensors on their device, shared by the datasets of all splits.

    Args:
        root: The directory.
        config: Its settings.
        settings: All of config.json.
        device: Where the tensors live; keyword lists and splits stay on the CPU, where rows are chosen.
        tensors: By name: embeddings, pairs, distances, stored steering.
        splits: Rows of pairs by split, int64 [n].
        keywords: Keyword rows of every pair.
        negatives: Hard negatives of every pair.
        storage: Where they were read from, for negatives and mapped tensors.
        mapped: Names of the tensors that stay on disk.
        source_clusters: Cluster of each source, int64 [n_sources]; None where the directory does not say.
    """

    root: Path
    config: DatasetConfig
    settings: Mapping[str, Any]
    device: torch.device
    tensors: dict[str, Tensor]
    splits: dict[str, Tensor]
    keywords: KeywordLists
    negatives: HardNegatives
    storage: Storage
    mapped: frozenset[str] = frozenset()
    source_clusters: Tensor | None = None

    def steering(
        self, pairs: NDArray[np.int64], questions: Tensor, clusters: Tensor, variants: NDArray[np.int64], out: Tensor
    ) -> Tensor:
        """Steering vectors of a batch, [B, D]; `out`, filled.

        Args:
            pairs: Rows of pairs, [B].
            questions: Their question embeddings, [B, D].
            clusters: Their clusters, int64 [B].
            variants: Numbers of variants, [B].
            out: [B, D] on the device.
        """
        counts = np.bincount(variants, minlength=len(VARIANTS))
        present = [number for number in (1, 2, 3) if counts[number]]
        stored = {number: self.tensors.get(STEERING_TENSORS[VARIANTS[number]]) for number in present}
        if any(table is None for table in stored.values()):
            torch.index_select(self.tensors["centroid_embs"], 0, clusters, out=out)
            unit, whole = (torch.from_numpy(factor[variants]).to(self.device) for factor in self._factors)
            along_the_line(questions, out, unit, whole)
        else:
            out.zero_()
        for number, table in stored.items():
            if table is not None:
                places = np.flatnonzero(variants == number)
                rows = torch.from_numpy(pairs[places]).to(self.device)
                out.index_copy_(0, torch.from_numpy(places).to(self.device), table.index_select(0, rows))
            elif VARIANTS[number] == "keyword":
                self._overwrite_with_keywords(pairs, np.flatnonzero(variants == number), out)
        return out

    def _overwrite_with_keywords(self, pairs: NDArray[np.int64], places: NDArray[np.int64], out: Tensor) -> None:
        """Put keyword steering where a pair has keywords; the rest of `places` keeps what it falls back to."""
        places = places[self.keywords.counts(pairs[places]) > 0]
        if len(places):
            lists = self.keywords.of(pairs[places])
            vectors = keyword_steering(lists, self.tensors["keyword_embs"])
            out.index_copy_(0, torch.from_numpy(places).to(self.device), vectors)

    @cached_property
    def _factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`unit` and `whole` of every variant, as `along_the_line` takes them, float32 [4, 1] each."""
        normalized = self.config.steering_normalize_residual
        fallback = float(self.config.steering_fallback_strategy == "centroid")
        unit = np.array([[0], [1], [fallback], [-1 if normalized else 0]], dtype=np.float32)
        whole = np.array([[0], [0], [0], [0 if normalized else -1]], dtype=np.float32)
        return unit, whole

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.tensors["pair_index"])

    def all_tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name in `dataset_layout.TENSORS`."""
        splits = {f"{split}_idx": rows for split, rows in self.splits.items()}
        ids, tiers = NEGATIVE_TENSORS
        return {**self.tensors, ids: self.negatives.ids, tiers: self.negatives.tiers, **splits}

    def bytes_in_memory(self) -> int:
        """Bytes of all tensors that are not mapped."""
        lists = self.keywords
        held = [tensor for name, tensor in self.all_tensors().items() if name not in self.mapped]
        others = (lists.values, lists.offsets, lists.weights, self.source_clusters, self.negatives.scores)
        return sum(tensor.nbytes for tensor in (*held, *others) if tensor is not None)

    def __getstate__(self) -> dict[str, Any]:
        # A map sent as a tensor would be read whole into shared memory.
        kept = {name: tensor for name, tensor in self.tensors.items() if name not in self.mapped}
        return {**self.__dict__, "tensors": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in self.mapped:
            found = self.storage.read(TENSORS[name])
            if found is None:
                raise InputError(f"{name} was mapped from here and is gone", remedy="Put it back.", path=self.root)
            self.tensors[name] = found.tensor
