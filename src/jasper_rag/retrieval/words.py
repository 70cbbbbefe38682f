"""How BM25 reads a text: words, stop words, stems, by language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

import Stemmer
from bm25s import stopwords as lists

from jasper_rag.errors import InputError

NO_LANGUAGE = "none"
"""The language that means: no stemming, no stop words."""

STOP_WORDS = MappingProxyType(
    {
        "danish": lists.STOPWORDS_DANISH,
        "dutch": lists.STOPWORDS_DUTCH,
        "english": lists.STOPWORDS_EN,
        "french": lists.STOPWORDS_FRENCH,
        "german": lists.STOPWORDS_GERMAN,
        "italian": lists.STOPWORDS_ITALIAN,
        "norwegian": lists.STOPWORDS_NORWEGIAN,
        "portuguese": lists.STOPWORDS_PORTUGUESE,
        "russian": lists.STOPWORDS_RUSSIAN,
        "spanish": lists.STOPWORDS_SPANISH,
        "swedish": lists.STOPWORDS_SWEDISH,
        "turkish": lists.STOPWORDS_TURKISH,
        NO_LANGUAGE: (),
    }
)
"""Language -> words left out; every name but "none" is also that of a Snowball stemmer."""

_WORD = re.compile(r"\b\w\w+\b")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True, slots=True)
class WordAnalyser:
    """Text -> stems: lower case, words of two letters or more, stop words out, Snowball stem.

    Names as programs spell them count as themselves and as their parts, so that `remove_tree` and `removeTree` are
    found by "remove": on code that is the larger part of what BM25 can find (docs/lab_log.md).

    Args:
        language: A key of `STOP_WORDS`.
        stop_words: Words left out before stemming.
    """

    language: str
    stop_words: frozenset[str]

    @classmethod
    def of(cls, language: str) -> WordAnalyser:
        """The analyser of a language; InputError for an unknown one."""
        if language not in STOP_WORDS:
            raise InputError(
                f"unknown language {language!r}", remedy=f"Known: {', '.join(STOP_WORDS)}.", field="language"
            )
        return cls(language, frozenset(STOP_WORDS[language]))

    def stems(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """The stems of one text after the other, repeats included, in order."""
        words = ([word for word in _words(text) if word not in self.stop_words] for text in texts)
        if self.language == NO_LANGUAGE:
            yield from words
            return
        # Made for each call: a Snowball stemmer carries a cache and must not be shared by threads.
        stemmer = Stemmer.Stemmer(self.language)
        for found in words:
            yield stemmer.stemWords(found)


def _words(text: str) -> Iterator[str]:
    """Lower-case words of `text`; a compound name is followed by its parts of two letters or more."""
    for found in _WORD.findall(text):
        word = found.strip("_")
        if len(word) < 2:
            continue
        yield word.lower()
        if "_" in word or not (word.islower() or word.isupper() or word.istitle()):
            parts = _PART.findall(word)
            if len(parts) > 1:
                yield from (part.lower() for part in parts if len(part) > 1)
