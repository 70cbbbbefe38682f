"""Batches with some of their keys only: what nobody asks for is not copied."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.data.batch import Batch
from jasper_rag.data.steering_tensors import SteeringTensors

NEGATIVE_ROWS = "negative_rows"
"""Key beside `BATCH_KEYS`: the negatives' source rows, int64 [B, N]."""

_STORED = {"relevance": "pair_relevance", "centroid_distance": "centroid_distances"}


def gathered(
    opened: SteeringTensors, rows: NDArray[np.int64], variants: NDArray[np.int64], keys: Collection[str]
) -> Batch:
    """The batch of these pairs with these keys.

    Args:
        opened: All tensors.
        rows: Of pairs, [B].
        variants: Numbers of their steering variants, [B].
        keys: Of `BATCH_KEYS`, and `NEGATIVE_ROWS`.

    Raises:
        KeyError: There is no such key.
    """
    held = opened.tensors
    pairs = torch.from_numpy(rows).to(opened.device)
    sides = held["pair_index"].index_select(0, pairs)
    found: Batch = {}
    if not {"negative_embs", "negative_tiers", NEGATIVE_ROWS}.isdisjoint(keys):
        # Read together, as they may be exchanged at any time.
        found[NEGATIVE_ROWS], found["negative_tiers"] = opened.negatives.take(pairs)
    if not {"question_emb", "steering"}.isdisjoint(keys):
        found["question_emb"] = held["question_embs"].index_select(0, sides[:, 0])
    if not {"cluster_id", "steering"}.isdisjoint(keys):
        found["cluster_id"] = held["pair_cluster_id"].index_select(0, pairs)
    for key in keys:
        if key in found:
            continue
        if key == "target_source_emb":
            found[key] = held["source_embs"].index_select(0, sides[:, 1])
        elif key == "negative_embs":
            chosen = found[NEGATIVE_ROWS]
            found[key] = held["source_embs"].index_select(0, chosen.view(-1)).view(*chosen.shape, -1)
        elif key == "steering":
            questions = found["question_emb"]
            found[key] = opened.steering(rows, questions, found["cluster_id"], variants, torch.empty_like(questions))
        elif key == "steering_variant":
            found[key] = torch.from_numpy(variants).to(opened.device)
        else:
            found[key] = held[_STORED[key]].index_select(0, pairs)
    return {key: found[key] for key in keys}
