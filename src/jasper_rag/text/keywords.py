"""Keywords: a dataset's vocabulary, and which of its words a question or a pair speaks of.

The weight of keyword t in a text is tf-idf with a damped count,

    w_t = sqrt(m_t) * ln(1 + N / n_t)

where m_t is how often t stands in the text, N the number of texts the vocabulary comes from and n_t how many of them
have t. For a pair, the weights of question and source, each scaled to length 1, are added: what both speak of comes
first.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from jasper_rag.text.terms import read_terms

PER_PAIR, PER_QUESTION = 8, 5
"""Most keywords of a pair and of a question."""

KeywordIds = tuple[int, ...]
"""Numbers of keywords in the vocabulary."""

Weights = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class KeywordVocabulary:
    """The keywords of one dataset: learnt (`keyword_learning`) or given (`of_lists`).

    Args:
        keywords: As shown; no two are equal but for the case of letters.
        weights: ln(1 + N / n_t) of each: rare ones weigh more.
        language: One of `words.LANGUAGES`: how the texts are read in which keywords are looked for.
    """

    keywords: tuple[str, ...]
    weights: tuple[float, ...]
    language: str = "english"

    def __post_init__(self) -> None:
        if len(self.keywords) != len(self.weights):
            raise ValueError(f"{len(self.keywords)} keywords but {len(self.weights)} weights.")

    @classmethod
    def of_lists(cls, given: Sequence[Sequence[str]], language: str = "english") -> Self:
        """All keywords of the lists, one list per pair or source, by the alphabet.

        The case of letters does not matter: "DNA" and "dna" are one keyword, shown as it is mostly written.
        """
        spelled: defaultdict[str, Counter[str]] = defaultdict(Counter)
        frequency: Counter[str] = Counter()
        for row in given:
            here = {_key(keyword): " ".join(keyword.split()) for keyword in row if keyword.strip()}
            frequency.update(here.keys())
            for key, keyword in here.items():
                spelled[key][keyword] += 1
        shown = {key: _most_written(spelled[key]) for key in sorted(spelled)}
        return cls(tuple(shown.values()), tuple(math.log1p(len(given) / frequency[key]) for key in shown), language)

    def __len__(self) -> int:
        return len(self.keywords)

    def ids_of(self, given: Iterable[Sequence[str]]) -> tuple[KeywordIds, ...]:
        """The numbers of given keywords, per list, in its order and each once; unknown ones are left out."""
        numbers = {_key(keyword): number for number, keyword in enumerate(self.keywords)}
        return tuple(tuple(dict.fromkeys(numbers[k] for k in map(_key, row) if k in numbers)) for row in given)

    def of_questions(self, questions: Iterable[str], most: int = PER_QUESTION) -> tuple[KeywordIds, ...]:
        """The keywords in each question, heaviest first: what is known before anything is found."""
        return tuple(_heaviest(found, most) for found in self.find(questions))

    def of_pairs(
        self, questions: Sequence[str], sources: Sequence[str], pairs: Iterable[tuple[int, int]], most: int = PER_PAIR
    ) -> tuple[KeywordIds, ...]:
        """The keywords of question and source together, heaviest first.

        They tell of the answer, so they exist in training only; a question that is asked has its own (`of_questions`).

        Args:
            questions: Q texts.
            sources: S texts.
            pairs: Numbers of question and source, each.
            most: Keywords per pair at most.
        """
        asked = [_scaled(found) for found in self.find(questions)]
        answering = [_scaled(found) for found in self.find(sources)]
        return tuple(_heaviest(_added(asked[question], answering[source]), most) for question, source in pairs)

    def find(self, texts: Iterable[str]) -> list[dict[int, float]]:
        """Keyword -> weight w_t, per text; where several keywords begin at one word, the longest is meant.

        Words are compared by their stems. A keyword of stop words and numbers alone is never found in a text.
        """
        corpus = read_terms(texts, self.language)
        starts = self._starts(corpus.stems)
        found = []
        for text in range(len(corpus)):
            stems = corpus.stems_of(text)
            counts: Counter[int] = Counter()
            position = 0
            while position < len(stems):
                length = 1
                for words, keyword in starts.get(stems[position], ()):
                    if stems[position : position + len(words)] == words:
                        counts[keyword] += 1
                        length = len(words)
                        break
                position += length
            found.append({keyword: math.sqrt(count) * self.weights[keyword] for keyword, count in counts.items()})
        return found

    def _starts(self, stems: Sequence[str]) -> Mapping[int, list[tuple[list[int], int]]]:
        """First stem -> (all stems, keyword), longest first, in the stem numbers of the texts to be searched."""
        numbers = {stem: number for number, stem in enumerate(stems)}
        own = read_terms(self.keywords, self.language)
        starts: defaultdict[int, list[tuple[list[int], int]]] = defaultdict(list)
        seen: set[tuple[int, ...]] = set()
        for keyword in range(len(own)):
            words = [numbers.get(own.stems[stem], -1) for stem in own.stems_of(keyword)]
            while words and not words[-1]:
                words.pop()
            words = words[next((place for place, stem in enumerate(words) if stem), 0) :]
            if words and -1 not in words and tuple(words) not in seen:
                seen.add(tuple(words))
                starts[words[0]].append((words, keyword))
        for begin in starts.values():
            begin.sort(key=lambda entry: -len(entry[0]))
        return starts


def _key(keyword: str) -> str:
    """What two spellings of one keyword share."""
    return " ".join(keyword.split()).casefold()


def _most_written(spelled: Counter[str]) -> str:
    return min(spelled, key=lambda text: (-spelled[text], text))


def _scaled(weights: Weights) -> Weights:
    length = math.hypot(*weights.values())
    return {keyword: weight / length for keyword, weight in weights.items()}


def _added(one: Weights, other: Weights) -> Weights:
    return {keyword: one.get(keyword, 0.0) + other.get(keyword, 0.0) for keyword in {**one, **other}}


def _heaviest(weights: Weights, most: int) -> KeywordIds:
    return tuple(sorted(weights, key=lambda keyword: (-weights[keyword], keyword))[:most])
