"""Texts that say the same: equal once normalised, or with nearly the same runs of five words.

Two texts of at least five words are near-duplicates where

    J(A, B) = |A & B| / |A | B| >= 0.8

with A and B their sets of word 5-grams (the resemblance of Broder 1997). Found exactly, without comparing all pairs:
two sets this similar share an element among the rarest ones of each (the prefix filter of Chaudhuri, Ganti and
Kaushik 2006, and Bayardo, Ma and Srikant 2007), so an inverted index of these few holds every candidate.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar
from jasper_rag.text.leakage import normalised

GRAM = 5
"""Words in a run."""

THRESHOLD = 0.8
"""Least resemblance of near-duplicates."""

_ROUNDING = 1e-9
# Chinese and Japanese are written without blanks: one sign counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_MOST = 255  # a byte's
_LARGEST_TABLE = 1 << 27


def words_of(text: str) -> list[str]:
    """The words of a normalised text, in order."""
    return _WORD.findall(normalised(text))


def resemblance(one: str, other: str) -> float:
    """Jaccard similarity of the sets of word 5-grams, in [0, 1]; 0 where a text has fewer than five words."""
    a, b = _gram_set(one), _gram_set(other)
    return len(a & b) / len(a | b) if a and b else 0.0


def near_duplicates(one: str, other: str, threshold: float = THRESHOLD) -> bool:
    """Say whether two texts are equal once normalised, or resemble each other by `threshold` or more."""
    return normalised(one) == normalised(other) or resemblance(one, other) >= threshold - _ROUNDING


def representatives(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """Row of the text that stands for each: the first kept one it is a near-duplicate of, else itself, which is kept.

    In the order given, so no two kept texts are near-duplicates of each other. 100,000 paragraphs take some twenty
    seconds.

    Args:
        texts: N texts.
        threshold: In (0, 1]: least resemblance.

    Raises:
        ValueError: A threshold outside.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected more than 0 and at most 1.")
    rows = list(_hashed(texts))
    counts = _Counts(rows)
    equal: dict[str, int] = {}
    postings: defaultdict[int, list[int]] = defaultdict(list)
    found: list[int] = []
    with progress_bar(len(texts), "looking for near-duplicates", "texts") as bar:
        for row, text in enumerate(texts):
            bar.update()
            first = equal.setdefault(normalised(text), row)
            if first != row:
                found.append(found[first])
                continue
            grams = counts.rarest_first(rows[row])
            prefix = [gram for gram in grams[: _prefix(len(grams), threshold)] if counts.several(gram)]
            candidates = {other for gram in prefix for other in postings.get(gram, ())}
            kept = _first_match(set(grams), candidates, rows, threshold)
            if kept < 0:
                for gram in prefix:
                    postings[gram].append(row)
            found.append(row if kept < 0 else kept)
    return found


@dataclass(frozen=True, slots=True)
class DistinctTexts:
    """Texts without near-duplicates.

    Args:
        texts: Those kept, in the order given.
        rows: Of every given text, the row in `texts` that stands for it; -1 for a blank one.
        blank: How many were blank.
        equal: How many were equal to a kept one once normalised.
        similar: How many resembled a kept one.
    """

    texts: tuple[str, ...]
    rows: tuple[int, ...]
    blank: int
    equal: int
    similar: int


def distinct_texts(texts: Sequence[str]) -> DistinctTexts:
    """Keep the first of every kind.

    Raises:
        InputError: All are blank.
    """
    visible = [place for place, text in enumerate(texts) if text.strip()]
    if not visible:
        raise InputError("there is no text.", remedy="Give documents with words.")
    found = representatives([texts[place] for place in visible])
    number: dict[int, int] = {}
    rows = [-1] * len(texts)
    equal = similar = 0
    for place, first in zip(visible, found, strict=True):
        rows[place] = number.setdefault(first, len(number))
        original = visible[first]
        same = normalised(texts[place]) == normalised(texts[original])
        equal += same and original != place
        similar += not same
    kept = tuple(texts[visible[first]] for first in number)
    return DistinctTexts(kept, tuple(rows), len(texts) - len(visible), equal, similar)


def _first_match(grams: set[int], candidates: set[int], rows: Sequence[array[int]], threshold: float) -> int:
    for other in sorted(candidates):
        few, many = sorted((len(grams), len(rows[other])))
        if few < threshold * many - _ROUNDING:
            continue
        common = len(grams.intersection(rows[other]))
        if common >= threshold * (few + many - common) - _ROUNDING:
            return other
    return -1


def _prefix(size: int, threshold: float) -> int:
    """How many of the rarest elements a set of this size has to enter in the index."""
    return size - math.ceil(threshold * size - _ROUNDING) + 1 if size else 0


def _gram_set(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)}


def _hashed(texts: Sequence[str]) -> Iterator[array[int]]:
    """The 5-grams of each text as 64-bit numbers, each once: two different ones collide with odds of 1 : 10^19."""
    numbers: dict[str, int] = {}
    for text in texts:
        words = [numbers.setdefault(word, len(numbers)) for word in words_of(text)]
        # Of whole numbers, not of strings: Python's hash of those differs from run to run.
        runs = zip(*(words[place:] for place in range(GRAM)), strict=False)
        yield array("q", {hash(run) for run in runs})


class _Counts:
    """About how many texts have each gram, a byte each: never too few. Any order does for the prefix filter."""

    def __init__(self, rows: Sequence[array[int]]) -> None:
        size = min(1 << (4 * sum(map(len, rows)) + 1).bit_length(), _LARGEST_TABLE)
        self._table, self._mask = bytearray(size), size - 1
        for row in rows:
            for gram in row:
                place = gram & self._mask
                if self._table[place] < _MOST:
                    self._table[place] += 1

    def several(self, gram: int) -> bool:
        """Whether more than one text may have it."""
        return self._table[gram & self._mask] > 1

    def rarest_first(self, grams: array[int]) -> list[int]:
        """In an order that is the same for all texts."""
        return sorted(grams, key=lambda gram: (self._table[gram & self._mask], gram))
