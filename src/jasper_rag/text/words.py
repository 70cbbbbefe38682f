"""Words, stop words and stems, by language: how BM25 reads a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

import Stemmer

from jasper_rag.errors import InputError

NO_LANGUAGE = "none"
"""The language that means: no stemming, no stop words."""

_LISTS = MappingProxyType(
    {
        "danish": "STOPWORDS_DANISH",
        "dutch": "STOPWORDS_DUTCH",
        "english": "STOPWORDS_EN",
        "french": "STOPWORDS_FRENCH",
        "german": "STOPWORDS_GERMAN",
        "italian": "STOPWORDS_ITALIAN",
        "norwegian": "STOPWORDS_NORWEGIAN",
        "portuguese": "STOPWORDS_PORTUGUESE",
        "russian": "STOPWORDS_RUSSIAN",
        "spanish": "STOPWORDS_SPANISH",
        "swedish": "STOPWORDS_SWEDISH",
        "turkish": "STOPWORDS_TURKISH",
    }
)
LANGUAGES = (*_LISTS, NO_LANGUAGE)
"""Every name but "none" is that of a Snowball stemmer and has a list of stop words."""

_WORD = re.compile(r"\b\w\w+\b")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True, slots=True)
class WordAnalyser:
    """Text -> stems: lower case, words of two letters or more, stop words out, Snowball stem.

    Names as programs spell them count as themselves and as their parts, so that `remove_tree` and `removeTree` are
    found by "remove": on code that is the larger part of what BM25 can find (docs/lab_log.md).

    Args:
        language: One of `LANGUAGES`.
        stop_words: Words left out before stemming.
    """

    language: str
    stop_words: frozenset[str]

    @classmethod
    def of(cls, language: str) -> WordAnalyser:
        """The analyser of a language; InputError for an unknown one."""
        return cls(language, stop_words(language))

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


def stop_words(language: str, *, every: bool = False) -> frozenset[str]:
    """The words of a language that say nothing of the subject, lower case; none for "none".

    Args:
        language: One of `LANGUAGES`.
        every: For English, 179 function words instead of the 33 that BM25 leaves out.

    Raises:
        InputError: An unknown language.
    """
    if language not in LANGUAGES:
        raise InputError(f"unknown language {language!r}", remedy=f"Known: {', '.join(LANGUAGES)}.", field="language")
    if language == NO_LANGUAGE:
        return frozenset()
    # Here, not above: bm25s loads libraries that nothing else in this folder needs.
    from bm25s import stopwords as lists

    return frozenset(getattr(lists, "STOPWORDS_EN_PLUS" if every and language == "english" else _LISTS[language]))


def name_parts(word: str) -> list[str]:
    """Parts of a name as programs spell it, in their own case: `parseHTTPHeader` -> parse, HTTP, Header."""
    parts: list[str] = _PART.findall(word)
    return parts


def _words(text: str) -> Iterator[str]:
    """Lower-case words of `text`; a compound name is followed by its parts of two letters or more."""
    for found in _WORD.findall(text):
        word = found.strip("_")
        if len(word) < 2:
            continue
        yield word.lower()
        if "_" in word or not (word.islower() or word.isupper() or word.istitle()):
            parts = name_parts(word)
            if len(parts) > 1:
                yield from (part.lower() for part in parts if len(part) > 1)
