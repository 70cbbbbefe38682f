"""Queries for documents that have none: of several styles, and none a piece of its document.

- cloze: a sentence, which is then taken out of the document (the inverse cloze task of Lee, Chang and Toutanova 2019,
  arXiv:1906.00300): the positive is the rest.
- keyword: three to eight words of a sentence, as one types into a search box.
- title: the document's heading, which is then taken out of the document.
- question: a statement turned into a question (`question_forms`).
- mixed: all of them in turn, in an order that differs from document to document.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar
from jasper_rag.text.headings import heading_starts
from jasper_rag.text.leakage import normalised, occurs_in
from jasper_rag.text.query_synthesis import as_keywords, pseudo_questions
from jasper_rag.text.question_forms import question_of
from jasper_rag.text.records import Document
from jasper_rag.text.sentences import sentence_spans
from jasper_rag.text.verbatim import PhraseFinder
from jasper_rag.text.words import stop_words

STYLES = ("cloze", "keyword", "title", "question")
"""What "mixed" stands for."""

MIXED, GENERATED = "mixed", "generated"
MOST_PER_DOCUMENT = 8

_SENTENCES_PER_CLOZE = 4
_LONGEST_TITLE = 12  # words of a first line that is taken for a heading
_HEADING_MARKS = re.compile(r"^[\s#=\-~^\"'*+<>`._:]+|\s*#*\s*$")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*[^\W_]")

Generate = Callable[[str], str]
"""Document text -> a query that it answers, or "" for none."""


class StyledQuery(NamedTuple):
    """One query.

    Args:
        row: Of the document that answers it.
        text: The query.
        style: One of `STYLES`, or "generated".
    """

    row: int
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class StyledQueries:
    """Queries and the documents without what was taken out of them.

    Args:
        queries: By document; no two are equal once normalised, none stands word for word in a text.
        texts: Every document at its row.
        dropped: Reason -> number of candidates left out.
    """

    queries: tuple[StyledQuery, ...]
    texts: tuple[str, ...]
    dropped: Mapping[str, int]


def chosen_styles(given: Sequence[str]) -> tuple[str, ...]:
    """Styles by name, "mixed" resolved; a name may hold several, separated by commas.

    Raises:
        InputError: An unknown one, or none.
    """
    names = [name.strip().lower() for entry in given for name in entry.replace(",", " ").split()]
    unknown = [name for name in names if name not in (*STYLES, MIXED)]
    if unknown or not names:
        problem = f"unknown style {unknown[0]!r}." if unknown else "no style is named."
        raise InputError(problem, remedy=f"Styles are {MIXED}, {', '.join(STYLES)}.", field="styles")
    return STYLES if MIXED in names else tuple(dict.fromkeys(names))


def styled_queries(
    documents: Sequence[str],
    most: int | None = None,
    styles: Sequence[str] = (MIXED,),
    seed: int = 42,
    language: str = "english",
    generate: Generate | None = None,
) -> StyledQueries:
    """Make queries: one per document, or `most` in all, dealt evenly; the same for the same documents and seed.

    A document that a style does not fit (no heading, a single sentence) gets a query of another chosen one that takes
    nothing out of it. Where queries are generated, the styles serve for documents that get none that way.

    Args:
        documents: N texts, a heading before the body where there is one.
        most: Queries in all. More than N: several for a document, at most `MOST_PER_DOCUMENT`.
        styles: See `chosen_styles`.
        seed: Another seed, other queries.
        language: Whose stop words are no keywords.
        generate: Called with the text of each document, as often as it is to have queries.

    Raises:
        InputError: `most` below 1, unknown styles or language; whatever `generate` raises.
    """
    if most is not None and most < 1:
        raise InputError(f"{most} pairs.", remedy="Give at least 1.", field="num_pairs")
    maker = _Maker(documents, chosen_styles(styles), seed, language)
    quotas = _quotas(len(documents), len(documents) if most is None else most, seed)
    return maker.made(quotas, generate)


def _quotas(documents: int, most: int, seed: int) -> list[int]:
    each, more = divmod(most, documents) if documents else (0, 0)
    order = sorted(range(documents), key=lambda row: _draw(seed, "quota", row))
    extra = set(order[:more])
    return [min(each + (row in extra), MOST_PER_DOCUMENT) for row in range(documents)]


class _Maker:
    def __init__(self, texts: Sequence[str], styles: tuple[str, ...], seed: int, language: str) -> None:
        self.common = stop_words(language, every=True)
        self.styles, self.seed = styles, seed
        self.documents = [_titled(str(row), text) for row, text in enumerate(texts)]
        self.counts = Counter(
            word for text in texts for word in {found.lower() for found in _WORD.findall(text)} - self.common
        )
        self.dropped: Counter[str] = Counter()

    def made(self, quotas: Sequence[int], generate: Generate | None) -> StyledQueries:
        plans = [self._plan(row, quota) for row, quota in enumerate(quotas)]
        found = self._generated(plans, generate) if generate else defaultdict(list)
        cloze = self._take_sentences(plans, found)
        for row, plan in enumerate(plans):  # a heading that is asked for must not stand in the answer
            if "title" in plan and self.documents[row].title and self.documents[row].text.strip():
                found[row].append(StyledQuery(row, self.documents[row].title, "title"))
                self.documents[row] = replace(self.documents[row], title="")
        wanted = [max(quota - len(cloze[row]), 0) for row, quota in enumerate(quotas)]
        self._add_others(found, wanted)
        for row, queries in cloze.items():
            found[row][:0] = queries
        texts = tuple(document.content.strip() for document in self.documents)
        usable = self._usable(found, texts)
        queries = [query for row, plan in enumerate(plans) for query in self._dealt(plan, usable[row])]
        self.dropped["pairs that no style could make"] += sum(map(len, plans)) - len(queries)
        return StyledQueries(tuple(queries), texts, {reason: n for reason, n in self.dropped.items() if n})

    def _plan(self, row: int, quota: int) -> list[str]:
        """The styles of a document's queries, in turn."""
        order = sorted(self.styles, key=lambda style: _draw(self.seed, style, row))
        return [order[number % len(order)] for number in range(quota)]

    def _generated(self, plans: Sequence[Sequence[str]], generate: Generate) -> defaultdict[int, list[StyledQuery]]:
        found: defaultdict[int, list[StyledQuery]] = defaultdict(list)
        with progress_bar(sum(map(len, plans)), "generating queries", "queries") as bar:
            for row, plan in enumerate(plans):
                for _ in plan:
                    text = " ".join(generate(self.documents[row].content).split())
                    found[row] += [StyledQuery(row, text, GENERATED)] if text else []
                    self.dropped["empty answers of the generator"] += not text
                    bar.update()
        return found

    def _take_sentences(
        self, plans: Sequence[Sequence[str]], found: Mapping[int, list[StyledQuery]]
    ) -> defaultdict[int, list[StyledQuery]]:
        """Take a sentence out of the documents that are to have one as query: one in four at most, of at least two."""
        rows_by_count: defaultdict[int, list[int]] = defaultdict(list)
        for row, plan in enumerate(plans):
            planned = plan.count("cloze") if len(found.get(row, ())) < len(plan) else 0
            sentences = len(sentence_spans(self.documents[row].text)) if planned else 0
            if sentences > 1:
                rows_by_count[min(planned, max(sentences // _SENTENCES_PER_CLOZE, 1))].append(row)
        taken: defaultdict[int, list[StyledQuery]] = defaultdict(list)
        for count, rows in sorted(rows_by_count.items()):
            asked = pseudo_questions(
                [self.documents[row] for row in rows], count, seed=self.seed, remove_from_document=True
            )
            for row, document in zip(rows, asked.documents, strict=True):
                self.documents[row] = document
            for query in asked.queries:
                row = int(next(iter(asked.qrels[query.id])))
                taken[row].append(StyledQuery(row, query.text, "cloze"))
        return taken

    def _add_others(self, found: defaultdict[int, list[StyledQuery]], wanted: Sequence[int]) -> None:
        """Keywords and questions from the sentences that are left; more than needed, for some will be dropped."""
        rows = [row for row, count in enumerate(wanted) if count]
        if not rows or not {"keyword", "question"} & set(self.styles):
            return
        most = min(max(wanted) + 2, MOST_PER_DOCUMENT)
        sentences = pseudo_questions([self.documents[row] for row in rows], most, seed=self.seed, min_words=4)
        keywords = as_keywords(sentences, self.common, self.seed)
        for sentence, words in zip(sentences.queries, keywords.queries, strict=True):
            row = int(next(iter(sentences.qrels[sentence.id])))
            if "keyword" in self.styles and words.text != sentence.text:
                found[row].append(StyledQuery(row, _unlike(words.text, sentence.text), "keyword"))
            if "question" in self.styles:
                draw = int.from_bytes(_draw(self.seed, sentence.text, row)[:4], "big")
                content = self.documents[row].content
                question = question_of(sentence.text, content, self.common, self.counts, draw)
                found[row] += [StyledQuery(row, question, "question")] if question else []

    def _usable(
        self, found: Mapping[int, Sequence[StyledQuery]], texts: Sequence[str]
    ) -> defaultdict[int, list[StyledQuery]]:
        """Without queries that stand in a text word for word, and those that several documents would answer."""
        queries = [query for row in sorted(found) for query in found[row]]
        verbatim = PhraseFinder([query.text for query in queries]).found_in_any(texts)
        rows_of: defaultdict[str, set[int]] = defaultdict(set)
        for query in queries:
            rows_of[normalised(query.text)].add(query.row)
        usable: defaultdict[int, list[StyledQuery]] = defaultdict(list)
        seen: set[str] = set()
        for number, query in enumerate(queries):
            key = normalised(query.text)
            shared = len(rows_of[key]) > 1
            self.dropped["candidates that stood word for word in a document"] += number in verbatim
            self.dropped["candidates that were made for several documents"] += shared and number not in verbatim
            if number not in verbatim and not shared and key and key not in seen:
                seen.add(key)
                usable[query.row].append(query)
        return usable

    def _dealt(self, plan: Sequence[str], usable: Sequence[StyledQuery]) -> Iterator[StyledQuery]:
        """Generated ones first, then what the plan names, then whatever there is."""
        left = list(usable)
        used: Counter[str] = Counter()
        for style in plan:
            if not left:
                return
            best = min(left, key=lambda query: (query.style != GENERATED, query.style != style, used[query.style]))
            left.remove(best)
            used[best.style] += 1
            yield best


def _titled(identifier: str, text: str) -> Document:
    """Part the heading, or a short first line without a full stop, from the body."""
    first, _, rest = text.strip().partition("\n")
    heading = heading_starts(text.strip())[:1] == [0]
    short = len(first.split()) <= _LONGEST_TITLE and first.strip()[-1:].isalnum()
    if not rest.strip() or not (heading or short):
        return Document(identifier, text)
    body = rest.lstrip()
    line, _, below = body.partition("\n")
    if line.strip() and not any(map(str.isalnum, line)):  # the line of marks under a heading
        body = below.lstrip()
    return (
        Document(identifier, body, title=_HEADING_MARKS.sub("", first)) if body.strip() else Document(identifier, text)
    )


def _unlike(words: str, sentence: str) -> str:
    """The words in another order, where they stand in the sentence as they are."""
    first, _, rest = words.partition(" ")
    return f"{rest} {first}" if rest and occurs_in(words, sentence) else words


def _draw(seed: int, *parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, (seed, *parts))).encode("utf-8", "surrogatepass")).digest()
