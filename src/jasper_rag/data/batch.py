"""A batch that comes ready from the dataset and passes through any `DataLoader` untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map
from torch.utils.data.dataloader import default_collate

Batch = dict[str, Tensor]
"""Key -> tensor whose first axis is the sample; the keys are `BATCH_KEYS`."""

BATCH_KEYS = (
    "question_emb",
    "target_source_emb",
    "steering",
    "negative_embs",
    "cluster_id",
    "relevance",
    "centroid_distance",
    "steering_variant",
    "negative_tiers",
)


class SteeringSample(dict[str, Tensor]):
    """One sample: the keys of a batch, without its first axis."""


class PreparedBatch(Sequence[SteeringSample]):
    """A batch under the guise of a list of samples.

    `Dataset.__getitems__` must return a sequence of samples, which a `DataLoader` then collates. torch's
    `default_collate` looks up the type of the first sample; `SteeringSample` is registered there with a function that
    takes the finished tensors out. A collate function of one's own sees ordinary samples.

    Args:
        tensors: The finished batch.
    """

    def __init__(self, tensors: Batch) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: Any) -> Any:
        """Sample at a position, or a batch of those in a slice."""
        if isinstance(index, slice):
            return PreparedBatch({key: tensor[index] for key, tensor in self.tensors.items()})
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a batch of {len(self)}")
        return SteeringSample({key: tensor[index] for key, tensor in self.tensors.items()})

    def __iter__(self) -> Iterator[SteeringSample]:
        return (self[place] for place in range(len(self)))


def _collate(samples: Sequence[SteeringSample], *, collate_fn_map: Mapping[Any, Any] | None = None) -> Batch:
    if isinstance(samples, PreparedBatch):
        return samples.tensors
    plain: Batch = default_collate([dict(sample) for sample in samples])
    return plain


# Torch's documented way of teaching `default_collate` a type; done in workers too, as they import this module.
default_collate_fn_map[SteeringSample] = _collate
