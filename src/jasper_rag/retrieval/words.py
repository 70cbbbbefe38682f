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


@dataclass(frozen=True, slots=True)
class WordAnalyser:
    """Text -> stems: lower case, words of two letters or more, stop words out, Snowball stem.

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
        words = ([word for word in _WORD.findall(text.lower()) if word not in self.stop_words] for text in texts)
        if self.language == NO_LANGUAGE:
            yield from words
            return
        # Made for each call: a Snowball stemmer carries a cache and must not be shared by threads.
        stemmer = Stemmer.Stemmer(self.language)
        for found in words:
            yield stemmer.stemWords(found)
