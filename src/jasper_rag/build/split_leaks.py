"""What the splits of a dataset share: sources, and questions that are nearly the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import top_k

EXAMPLES = 3


def split_leaks(
    pairs: NDArray[np.int64],
    splits: Mapping[str, NDArray[np.int64]],
    text_group: NDArray[np.int64],
    questions: Vectors,
    texts: Sequence[str],
    near: float,
) -> dict[str, Any]:
    """Count, for every later split, what stands in train too.

    Args:
        pairs: int64 [P, 2].
        splits: Split -> rows of pairs; "train" is among them.
        text_group: int64 [N], sources of equal text are one.
        questions: float32 [Q, D], unit rows.
        texts: The Q questions.
        near: Cosine from which two questions count as one.

    Returns:
        Plain values: split -> shared sources, near-duplicate questions, the totals, and up to three examples.
    """
    train = pairs[splits["train"]]
    seen, asked = np.unique(text_group[train[:, 1]]), np.unique(train[:, 0])
    report: dict[str, Any] = {}
    for split, rows in splits.items():
        if split == "train" or not len(rows):
            continue
        sources = np.unique(text_group[pairs[rows, 1]])
        own = np.unique(pairs[rows, 0])
        scores, nearest = top_k(questions[own], np.ascontiguousarray(questions[asked]), 1)
        close = np.flatnonzero(scores[:, 0] >= near)
        order = close[np.argsort(-scores[close, 0], kind="stable")][:EXAMPLES]
        report[split] = {
            "sources": len(sources),
            "shared_sources": int(np.isin(sources, seen).sum()),
            "questions": len(own),
            "near_duplicate_questions": len(close),
            "examples": [
                {"question": texts[own[row]], "train": texts[asked[nearest[row, 0]]], "cosine": float(scores[row, 0])}
                for row in order
            ],
        }
    return report
