"""Which of many phrases stand word for word in a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from jasper_rag.progress import progress_bar
from jasper_rag.text.leakage import normalised

_START = 4


class PhraseFinder:
    """Finds phrases as whole runs of words, both sides normalised (`leakage.normalised`).

    Args:
        phrases: Numbered from 0. A blank one stands nowhere.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        # By the first words: a text of W words then takes at most four look-ups at each, however many phrases.
        self._starts: defaultdict[tuple[str, ...], list[tuple[list[str], int]]] = defaultdict(list)
        for number, phrase in enumerate(phrases):
            if words := normalised(phrase).split():
                self._starts[tuple(words[:_START])].append((words, number))
        self._sizes = sorted({len(start) for start in self._starts})

    def found_in(self, text: str) -> set[int]:
        """Numbers of the phrases that stand in the text."""
        words = normalised(text).split()
        found: set[int] = set()
        for at in range(len(words)):
            for size in self._sizes:
                for phrase, number in self._starts.get(tuple(words[at : at + size]), ()):
                    if words[at : at + len(phrase)] == phrase:
                        found.add(number)
        return found

    def found_in_any(self, texts: Iterable[str]) -> set[int]:
        """Numbers of the phrases that stand in at least one of the texts."""
        given = list(texts)
        found: set[int] = set()
        with progress_bar(len(given), "looking for questions word for word", "texts") as bar:
            for text in given:
                found |= self.found_in(text)
                bar.update()
        return found
