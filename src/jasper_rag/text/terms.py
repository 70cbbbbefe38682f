"""Words and pairs of words that can name a subject, each under its stem, shown as it is mostly spelled.

What clusters are named by and keywords are made of. Read more finely than BM25 reads (`words`): a term never reaches
across a stop word, a number or a punctuation mark, and "Cells" and "cell" are one term.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import Stemmer

from jasper_rag.text.words import NO_LANGUAGE, name_parts, stop_words

Term = tuple[int, ...]
"""One or two stem numbers: a word, or a pair of words that follow each other."""

_LONGEST_WORD = 30
_LOWER_CASE = 0.25
"""Share of lower-case occurrences from which a word counts as a common one: its capitals begin sentences."""

_BREAK = 0

# A word may hold inner hyphens and apostrophes ("x-ray", "Alzheimer's"); any other mark ends a run of words.
_PIECE = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]|\n")
_FEW_PARTS, _SHORTEST_PART = 2, 3

_MORE_ENGLISH = """
also although among another around away cannot could e.g either else etc ever every however i.e instead let like many
may maybe might much must neither never often one ones onto others otherwise per perhaps quite rather really shall
since sometimes still therefore though three thus together toward towards two unless upon us usually via whatever
whenever whether whose within without would yet
"""


@dataclass(frozen=True, slots=True)
class TermCorpus:
    """Texts as numbers. Make one with `read_terms`.

    Args:
        texts: Per text the numbers of its words in order; 0 stands where words do not follow each other.
        words: Spelling of each word number; the first is "".
        stem_of: Stem number of each word number; 0 for the first.
        stems: Each stem number's stem.
    """

    texts: tuple[array[int], ...]
    words: tuple[str, ...]
    stem_of: tuple[int, ...]
    stems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def stems_of(self, text: int) -> list[int]:
        """The stem numbers of a text in order, 0 where words do not follow each other."""
        return [self.stem_of[word] for word in self.texts[text]]

    def spellings(self, terms: Iterable[Term]) -> dict[Term, str]:
        """How each of these terms is spelled most often; equally often: the shortest, then the first by alphabet.

        In lower case where it is so at least now and then; a name keeps its capitals.
        """
        wanted = set(terms)
        firsts = {term[0] for term in wanted}
        found: dict[Term, Counter[tuple[int, ...]]] = {term: Counter() for term in wanted}
        for text in self.texts:
            for word, following in pairwise([*text, _BREAK]):
                first = self.stem_of[word]
                if first in firsts:
                    if (first,) in found:
                        found[first,][word,] += 1
                    pair = (first, self.stem_of[following])
                    if pair in found:
                        found[pair][word, following] += 1
        return {term: self._best(spelled) for term, spelled in found.items() if spelled}

    def _best(self, spelled: Counter[tuple[int, ...]]) -> str:
        texts = Counter({" ".join(self.words[word] for word in words): count for words, count in spelled.items()})
        letters: Counter[str] = Counter()
        for text, count in texts.items():
            letters[text.lower()] += count
        lower = min(letters, key=lambda text: (-letters[text], len(text), text))
        if texts[lower] >= _LOWER_CASE * letters[lower]:
            return lower
        return min((text for text in texts if text.lower() == lower), key=lambda text: (-texts[text], text))


def read_terms(texts: Iterable[str], language: str = "english", most_characters: int = 2_000) -> TermCorpus:
    """Read texts.

    Left out: stop words, single letters, whatever starts with a digit, and words over 30 letters. Names as programs
    spell them are read as their parts: `remove_tree` and `removeTree` as "remove tree"; but "GitHub" stays whole.

    Args:
        texts: Any texts.
        language: One of `words.LANGUAGES`.
        most_characters: Of each text; the rest is not read. An encoder, too, reads no more than its first page.

    Raises:
        InputError: An unknown language.
    """
    reader = _Reader(language)
    numbered = tuple(reader.read(text[:most_characters]) for text in texts)
    return TermCorpus(numbered, tuple(reader.words), tuple(reader.stem_of), tuple(reader.stems))


class _Pieces(dict[str, tuple[int, ...]]):
    """Piece of text -> word numbers, worked out when a piece is first met."""

    def __init__(self, numbers_of: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self._numbers_of = numbers_of

    def __missing__(self, piece: str) -> tuple[int, ...]:
        numbers = self[piece] = self._numbers_of(piece)
        return numbers


class _Reader:
    """Numbers words and stems as they come."""

    def __init__(self, language: str) -> None:
        self.words, self.stem_of, self.stems = [""], [0], [""]
        self._stop = stop_words(language, every=True) | set(_MORE_ENGLISH.split() if language == "english" else ())
        self._stemmer = None if language == NO_LANGUAGE else Stemmer.Stemmer(language)
        self._pieces = _Pieces(lambda piece: tuple(map(self._number, _words(piece))))
        self._word_numbers: dict[str, int] = {}
        self._stem_numbers: dict[str, int] = {}

    def read(self, text: str) -> array[int]:
        numbers = list(chain.from_iterable(map(self._pieces.__getitem__, _PIECE.findall(text))))
        # One break is as good as several.
        return array("I", [number for before, number in pairwise([_BREAK, *numbers]) if number or before])

    def _number(self, word: str) -> int:
        lower = word.lower()
        if not word or len(word) < 2 or len(word) > _LONGEST_WORD or word[0].isdigit() or lower in self._stop:
            return _BREAK
        number = self._word_numbers.get(word)
        if number is None:
            stem = lower if self._stemmer is None else self._stemmer.stemWord(lower)
            if stem not in self._stem_numbers:
                self._stem_numbers[stem] = len(self.stems)
                self.stems.append(stem)
            number = self._word_numbers[word] = len(self.words)
            self.words.append(word)
            self.stem_of.append(self._stem_numbers[stem])
        return number


def _words(piece: str) -> Sequence[str]:
    """The words of one piece of text; "" for a mark."""
    word = piece.replace("\u2019", "'").strip("_")
    if not word or not word[0].isalnum():
        return ("",)
    if "_" in word:
        # A name is a unit of its own: its first part does not continue what stands before it.
        return ["", *(part for parts in word.split("_") for part in _parts(parts)), ""]
    parts = _parts(word)
    return parts if len(parts) == 1 else ["", *parts, ""]


def _parts(word: str) -> list[str]:
    """A word, or the parts of a name such as `removeTree` and `BaseRequestHandler`; "GitHub" and "miRNAs" are words."""
    if word.islower() or word.isupper() or word.istitle() or not word.isalpha():
        return [word]
    parts = name_parts(word)
    program = word[0].islower() or len(parts) > _FEW_PARTS
    return parts if program and min(map(len, parts)) >= _SHORTEST_PART else [word]
