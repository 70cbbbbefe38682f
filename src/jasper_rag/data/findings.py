"""What can be served but spoils training or its figures: counted at load, and warned of.

In numpy: torch would share each of these short computations out among threads, and on a busy machine wait for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.dataset_layout import SPLITS

_BLOCK = 1 << 18
"""Rows of negatives looked at at a time."""


class DatasetWarning(UserWarning):
    """A dataset directory is served, but something about it should be mended."""


def find_faults(tensors: Mapping[str, Tensor]) -> list[str]:
    """One sentence, with its count, for each kind of fault found.

    Args:
        tensors: Checked tensors by name: pairs, negatives, questions, sources and splits.
    """
    splits: dict[str, Tensor] = {split: tensors[f"{split}_idx"] for split in SPLITS if f"{split}_idx" in tensors}
    return [
        *negative_faults(tensors["hard_negatives"], tensors["pair_index"], len(tensors["source_embs"])),
        *_split_faults(splits, tensors["pair_index"], (len(tensors["question_embs"]), len(tensors["source_embs"]))),
    ]


def negative_faults(negatives: Tensor, pair_index: Tensor, sources: int) -> list[str]:
    """Duplicates within a row of negatives, and negatives that answer the row's question.

    Args:
        negatives: int64 [n_pairs, N], rows of sources.
        pair_index: int64 [n_pairs, 2], question and source.
        sources: Number of sources.
    """
    questions, answering = pair_index.numpy().T
    known = np.sort(questions * sources + answering)
    repeated, answered, answers = 0, 0, 0
    for start in range(0, len(negatives), _BLOCK):
        block = negatives[start : start + _BLOCK].numpy()
        ordered = np.sort(block, axis=1)
        repeated += int((ordered[:, 1:] == ordered[:, :-1]).any(axis=1).sum())
        asked = questions[start : start + _BLOCK, None] * sources + block
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        positive = known[place] == asked
        answers += int(positive.sum())
        answered += int(positive.any(axis=1).sum())
    found = []
    if repeated:
        found.append(f"{repeated} of {len(negatives)} pairs have duplicate negatives, which then count double")
    if answers:
        found.append(
            f"{answers} known positives among the negatives, in {answered} of {len(negatives)} pairs: "
            "training pushes right answers away"
        )
    return found


def _split_faults(splits: Mapping[str, Tensor], pair_index: Tensor, counts: tuple[int, int]) -> list[str]:
    found = [f"the {split} split is missing" for split in SPLITS if split not in splits]
    found += [f"the {split} split has 0 pairs" for split, rows in splits.items() if not len(rows)]
    left = len(pair_index) - sum(map(len, splits.values()))
    if left and not found:
        found.append(f"{left} of {len(pair_index)} pairs are in no split")
    for column, name in enumerate(("questions", "sources")):
        used: dict[str, NDArray[np.bool_]] = {split: np.zeros(counts[column], dtype=np.bool_) for split in splits}
        for split, rows in splits.items():
            used[split][pair_index.numpy()[rows.numpy(), column]] = True
        for one, other in combinations(used, 2):
            if shared := int((used[one] & used[other]).sum()):
                found.append(
                    f"{shared} {name} are shared by the {one} and {other} splits, so figures on {other} flatter"
                )
    return found
