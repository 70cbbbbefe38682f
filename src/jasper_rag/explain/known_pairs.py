"""Questions whose answers are known: a bank in which the pairs most like a new question are found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, as_float32, top_k
from jasper_rag.models.guard import Vectors, unit

_UNIT = 1e-5
"""Lengths this close to 1 are rounding: such rows stay as they are, and so does a memory map."""


@dataclass(frozen=True, slots=True)
class KnownPairs:
    """P pairs of a question and a source that answers it.

    Args:
        questions: [P, D], any real type; kept as float32 rows of length 1 (a row of zeros stays one).
        question_texts: P texts, or none.
        question_ids: P ids, or none.
        source_ids: P ids, or none.
        source_texts: P titles or beginnings of the sources, or none.
        sources: int64 [P], row of each pair's source in the corpus; None where there is none.

    Raises:
        ValueError: There is no pair, a vector is not finite, or the parts are not of one length.
    """

    questions: Vectors
    question_texts: Sequence[str] = ()
    question_ids: Sequence[str] = ()
    source_ids: Sequence[str] = ()
    source_texts: Sequence[str] = ()
    sources: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.questions.ndim != 2 or 0 in self.questions.shape:
            raise ValueError(f"known questions must be [P, D], P and D at least 1, got {list(self.questions.shape)}.")
        count = len(self.questions)
        for name in ("question_texts", "question_ids", "source_ids", "source_texts"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(f"{len(getattr(self, name))} {name} for {count} known questions.")
        if self.sources is not None and self.sources.shape != (count,):
            raise ValueError(f"sources {list(self.sources.shape)} for {count} known questions.")
        object.__setattr__(self, "questions", _unit_rows(self.questions))

    @classmethod
    def of_tensors(cls, pairs: Iterable[tuple[Tensor, Tensor, Tensor]]) -> KnownPairs:
        """Of (question, steering, source) embeddings, each [D] or [1, D]: their questions, without texts."""
        rows = [question.detach().reshape(-1).to("cpu", torch.float32) for question, _, _ in pairs]
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"known questions must share one width, got {sorted({len(row) for row in rows})}.")
        return cls(torch.stack(rows).numpy())

    def __len__(self) -> int:
        """P."""
        return len(self.questions)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.questions.shape[1])

    def nearest(self, questions: Vectors, k: int) -> tuple[RowMatrix, FloatMatrix]:
        """The k pairs whose questions are most alike, best first, ties by the smaller row.

        Args:
            questions: [Q, D], of any length.
            k: At least 1.

        Returns:
            Rows int64 [Q, min(k, P)] and cosines float32 of the same shape.
        """
        cosines, rows = top_k(unit(as_float32(questions)), self.questions, k)
        return rows, cosines

    def described(self, rows: RowMatrix, cosines: FloatMatrix) -> list[list[dict[str, Any]]]:
        """The pairs of `nearest` in plain values, Q lists of k.

        `similarity` (cosine, 7 decimals), `index`, `question`, `question_id`, `source`, `source_id`. An unknown text is
        "", an unknown id the index as text.
        """
        texts, ids = self.question_texts, self.question_ids
        titles, sources = self.source_texts, self.source_ids
        alike = np.round(cosines.astype(np.float64), 7).tolist()
        return [
            [
                {
                    "similarity": similarity,
                    "index": row,
                    "question": texts[row] if texts else "",
                    "question_id": ids[row] if ids else str(row),
                    "source": titles[row] if titles else "",
                    "source_id": sources[row] if sources else str(row),
                }
                for row, similarity in zip(*pair, strict=True)
            ]
            for pair in zip(rows.tolist(), alike, strict=True)
        ]


def _unit_rows(questions: NDArray[Any]) -> Vectors:
    rows = as_float32(questions)
    lengths = np.linalg.norm(rows, axis=1)
    if not np.isfinite(lengths).all():
        raise ValueError(f"known question {int(np.flatnonzero(~np.isfinite(lengths))[0])} is not finite.")
    return rows if bool((np.abs(lengths - 1) < _UNIT).all()) else unit(rows)
