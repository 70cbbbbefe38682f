"""Hard negatives for pairs: what a search ranks high for the query, though it does not answer it.

A text that scores nearly as high as the positive may well be another answer: of each query's candidates only those
with at most 95 % of the positive's score count (the filter of Moreira et al. 2024, arXiv:2407.15831). Where none is
left, as for a cloze query whose positive shares few words with it, the first three are skipped instead; and where the
query finds nothing, the positive itself is searched with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.metrics.topk import inner_products
from jasper_rag.progress import progress_bar
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.text.near_duplicates import near_duplicates
from jasper_rag.text.words import stop_words

MARGIN = 0.95
"""Most of the positive's score that a negative may have."""

_SKIPPED = 3
_LOOKED_AT = 50
_BLOCK = 64


class Scorer(Protocol):
    """Scores of all documents for some queries."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [Q, N]; 0 or less for what does not match."""
        ...


class EncoderScorer:
    """Cosine between queries and documents.

    Args:
        encoder: For both.
        documents: N texts.
    """

    def __init__(self, encoder: Encoder, documents: Sequence[str]) -> None:
        self._encoder = encoder
        with progress_bar(len(documents), "encoding documents", "documents") as bar:
            parts = []
            for start in range(0, len(documents), 8 * _BLOCK):
                parts.append(encoder.encode(documents[start : start + 8 * _BLOCK], "document"))
                bar.update(len(parts[-1]))
        self._documents = np.concatenate(parts)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Cosines, float32 [Q, N]."""
        return inner_products(self._encoder.encode(texts, "query"), self._documents)


@dataclass(frozen=True, slots=True)
class MinedNegatives:
    """A negative for every query.

    Args:
        rows: Of the documents; -1 where there is none that may serve.
        how: "mined", "skipped" (below the first three), "like the positive" or "random" -> how many.
    """

    rows: tuple[int, ...]
    how: dict[str, int]


def mine_negatives(
    queries: Sequence[str],
    positives: Sequence[Collection[int]],
    documents: Sequence[str],
    allowed: Sequence[bool],
    kind: str = "bm25",
    *,
    encoder: Encoder | None = None,
    language: str = "english",
    seed: int = 42,
) -> MinedNegatives:
    """Choose for every query the best-ranked allowed document that is no answer and no near-duplicate of one.

    Args:
        queries: Q texts.
        positives: Per query the rows of all documents that answer it.
        documents: N texts.
        allowed: [N], which of them may be negatives: those for training.
        kind: "bm25", "encoder" or "random".
        encoder: For "encoder".
        language: For "bm25".
        seed: For random ones, which also serve where nothing matches.

    Raises:
        ValueError: Another kind, or no encoder for "encoder".
    """
    usable = np.asarray(allowed, dtype=np.bool_)
    pool = np.flatnonzero(usable).tolist()
    scorer: Scorer | None = None
    if kind == "bm25":
        scorer = LexicalIndex.build(documents, language)
    elif kind == "encoder" and encoder is not None:
        scorer = EncoderScorer(encoder, documents)
    elif kind != "random":
        raise ValueError(f"kind is {kind!r}, encoder is {encoder}.")
    rows: list[int] = []
    how: Counter[str] = Counter()
    with progress_bar(len(queries), "mining negatives", "queries") as bar:
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            scores = None if scorer is None else scorer.scores(_telling(block, language) if kind == "bm25" else block)
            for place, query in enumerate(block):
                answers = positives[start + place]
                fits = _fits(documents, answers)
                row, kind_of = (-1, "") if scores is None else _best(scores[place], answers, usable, fits)
                if row < 0 and scorer is not None:
                    row, kind_of = _like_the_positive(scorer, documents, answers, usable, fits), "like the positive"
                if row < 0:
                    row, kind_of = _random(query, pool, fits, seed), "random"
                how[kind_of if row >= 0 else "none"] += 1
                rows.append(row)
            bar.update(len(block))
    return MinedNegatives(tuple(rows), dict(how))


def _fits(documents: Sequence[str], answers: Collection[int]) -> Callable[[int], bool]:
    def fits(row: int) -> bool:
        return row not in answers and not any(near_duplicates(documents[row], documents[one]) for one in answers)

    return fits


def _like_the_positive(
    scorer: Scorer,
    documents: Sequence[str],
    answers: Collection[int],
    usable: NDArray[np.bool_],
    fits: Callable[[int], bool],
) -> int:
    for answer in sorted(answers):
        scores = scorer.scores([documents[answer]])[0]
        for row in _first(scores, usable & (scores > 0)):
            if fits(row):
                return row
    return -1


def _telling(queries: Sequence[str], language: str) -> list[str]:
    """Without function words: what else has a "what" or "should" in it is no hard negative."""
    common = stop_words(language, every=True)
    return [" ".join(word for word in query.split() if word.lower().strip("?.,!") not in common) for query in queries]


def _best(
    scores: NDArray[np.float32], answers: Collection[int], usable: NDArray[np.bool_], fits: Callable[[int], bool]
) -> tuple[int, str]:
    limit = MARGIN * max((float(scores[row]) for row in answers), default=0.0)
    matching = usable & (scores > 0)
    for row in _first(scores, matching & (scores <= limit)):
        if fits(row):
            return row, "mined"
    others = [row for row in _first(scores, matching) if row not in answers][_SKIPPED:]
    return next(((row, "skipped") for row in others if fits(row)), (-1, ""))


def _first(scores: NDArray[np.float32], eligible: NDArray[np.bool_]) -> list[int]:
    """The best eligible rows, ties by the smaller row."""
    rows = np.flatnonzero(eligible)
    if len(rows) > _LOOKED_AT:
        least = np.partition(scores[rows], -_LOOKED_AT)[-_LOOKED_AT]
        rows = rows[scores[rows] >= least]
    best: list[int] = rows[np.argsort(-scores[rows], kind="stable")][:_LOOKED_AT].tolist()
    return best


def _random(query: str, pool: Sequence[int], fits: Callable[[int], bool], seed: int) -> int:
    """A document by the draw of this query; -1 where none of the next fifty will do."""
    if not pool:
        return -1
    start = int.from_bytes(hashlib.sha256(f"{seed}\0{query}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    step = (pool[(start + place) % len(pool)] for place in range(min(len(pool), _LOOKED_AT)))
    return next((row for row in step if fits(row)), -1)
