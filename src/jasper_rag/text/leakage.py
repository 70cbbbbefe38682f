"""What one split tells about another: equal questions, shared sources, questions quoted in their own answers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jasper_rag.text.records import RetrievalSet

EXAMPLES = 3
"""Examples kept of every kind of leak."""

VERBATIM_WORDS = 4
"""A question of fewer words may well occur in its answer by chance, so it is not counted."""


class _Blanked(dict[int, str]):
    """`str.translate` table that turns punctuation into blanks, one character at a time as it is first seen."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character).startswith(("P", "Z", "C")) else character
        return self[code]


_BLANKED = _Blanked()


def normalised(text: str) -> str:
    """Return the text in the form in which two texts count as equal.

    Compatibility characters unified (NFKC), letter case folded, punctuation read as blanks, runs of blanks as one.
    A text of punctuation alone keeps it, so that the result is empty for blank texts only.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_BLANKED).split()) or " ".join(folded.split())


def text_key(text: str, identifier: str) -> str:
    """Return what equal texts share: the normalised text, or for a blank one a key of its own."""
    return normalised(text) or f"\0{identifier}"


def occurs_in(question: str, text: str) -> bool:
    """Say whether the question stands in the text as a whole run of words, both normalised."""
    return f" {normalised(question)} " in f" {normalised(text)} "


@dataclass(frozen=True, slots=True)
class Leak:
    """One kind of leak.

    Args:
        count: How many texts leak.
        total: Out of how many.
        examples: Up to `EXAMPLES` of them, each one line.
    """

    count: int
    total: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What a set's splits leak.

    Args:
        name: The set.
        splits: Its splits.
        equal_queries: Questions that are equal after `normalised` and stand in more than one split.
        shared_sources: Sources (documents of equal content) that are relevant in more than one split.
        verbatim_queries: Questions of at least `VERBATIM_WORDS` words that occur in a relevant document.
    """

    name: str
    splits: tuple[str, ...]
    equal_queries: Leak
    shared_sources: Leak
    verbatim_queries: Leak

    @property
    def clean(self) -> bool:
        """Whether nothing leaks."""
        return not (self.equal_queries.count or self.shared_sources.count or self.verbatim_queries.count)

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text, ready to print."""
        yield f"Leaks in {self.name} ({', '.join(self.splits) or 'no split'}):"
        kinds = (
            ("questions that stand in several splits", self.equal_queries),
            ("sources shared by splits", self.shared_sources),
            ("questions quoted in a document that answers them", self.verbatim_queries),
        )
        for title, leak in kinds:
            yield f"  {title}: {leak.count} of {leak.total}"
            for example in leak.examples:
                yield f"    {example}"


def leak_report(retrieval_set: RetrievalSet) -> LeakReport:
    """Count what leaks between the splits of a set, and from documents to questions."""
    text = {query.id: query.text for query in retrieval_set.queries}
    content = {document.id: text_key(document.content, document.id) for document in retrieval_set.documents}
    query_splits: dict[str, dict[str, str]] = {}  # normalised question -> split -> query id
    source_splits: dict[str, dict[str, str]] = {}  # normalised content -> split -> document id
    quoted: dict[str, str] = {}  # query id -> document id
    judged: set[str] = set()
    for split, qrels in retrieval_set.qrels.items():
        for query, relevance in qrels.items():
            question = text_key(text[query], query)
            judged.add(query)
            query_splits.setdefault(question, {}).setdefault(split, query)
            for document, score in relevance.items():
                if score > 0:
                    source_splits.setdefault(content[document], {}).setdefault(split, document)
                    if len(question.split()) >= VERBATIM_WORDS and f" {question} " in f" {content[document]} ":
                        quoted.setdefault(query, document)
    return LeakReport(
        retrieval_set.name,
        tuple(retrieval_set.qrels),
        _leak(_across(query_splits.values()), len(query_splits)),
        _leak(_across(source_splits.values()), len(source_splits)),
        _leak([f"query {query!r} in document {document!r}" for query, document in quoted.items()], len(judged)),
    )


def _across(places: Iterable[dict[str, str]]) -> list[str]:
    several = [ids for ids in places if len(ids) > 1]
    return [", ".join(f"{identifier!r} in {split}" for split, identifier in ids.items()) for ids in several]


def _leak(found: list[str], total: int) -> Leak:
    return Leak(len(found), total, tuple(found[:EXAMPLES]))
