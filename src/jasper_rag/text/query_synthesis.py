"""Questions from documents alone: sentences that stand in for questions, each answered by its document.

The inverse cloze task of Lee, Chang and Toutanova (2019, arXiv:1906.00300), with the sentence left in its document
by default; or a few of its words, which are cheaper to encode and harder to answer.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import normalised
from jasper_rag.text.records import Document, Query
from jasper_rag.text.sentences import Span, sentence_spans

logger = logging.getLogger(__name__)

# One sign of Chinese or Japanese counts as a word: they are written without blanks.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_LINE = re.compile(r"\S[^\r\n]*")
_TO_NEXT_LINE = re.compile(r"[^\S\n]*\n?")
_BULLET = re.compile(r"^(?:[-*+\u2022\u2013>#]+|\(?\d{1,3}[.)]|//+)\s+")
# A name with its inner hyphens and apostrophes; Chinese and Japanese stay in one piece up to the next mark.
_KEYWORD = re.compile(r"[^\W_][\w'\u2019-]*")
_FEWEST_KEYWORDS, _MOST_KEYWORDS, _MOST_TITLE_WORDS = 3, 8, 4


@dataclass(frozen=True, slots=True)
class PseudoQuestions:
    """Sentences, or words of them, as questions.

    Args:
        queries: In the documents' order; ids are `pseudo:<document id>#<0, 1, ...>`.
        qrels: Query id -> {id of the document it stands in: 1}.
        documents: The corpus, every document at its row; without the chosen sentences where that was asked for.
        skipped: Documents without a question.
        shared: Different sentences left out because they stand in several documents.
    """

    queries: list[Query]
    qrels: dict[str, dict[str, int]]
    documents: list[Document]
    skipped: int
    shared: int


class _Candidate(NamedTuple):
    question: str
    key: str  # the question, normalised
    spans: list[Span]  # everywhere it stands


def pseudo_questions(
    documents: Iterable[Document],
    per_document: int = 2,
    seed: int = 0,
    min_words: int = 5,
    max_words: int = 60,
    remove_from_document: bool = False,
) -> PseudoQuestions:
    """Choose up to `per_document` sentences of every document as questions that the document answers.

    A document's choice depends on the seed, its id and its sentences only, not on its place in the corpus, and the
    questions for `per_document=1` are the first of those for 2. Program code gives lines instead of sentences, and
    so does a text without a usable sentence. Not used: sentences that (normalised) stand in several documents,
    that are mostly digits and marks, and that are all there is of their document.

    Args:
        documents: The corpus.
        per_document: Most questions of one document.
        seed: Another seed, another choice.
        min_words: Fewest words of a question.
        max_words: Most words of a question.
        remove_from_document: Also take the chosen sentences, wherever they stand, out of their documents, so that
            finding one back takes more than equal words. Then a document keeps at least one sentence.

    Raises:
        InputError: A number below 1, or `min_words` above `max_words`.
    """
    if per_document < 1 or not 1 <= min_words <= max_words:
        raise InputError(
            f"per_document is {per_document}, min_words {min_words}, max_words {max_words}.",
            remedy="Give at least 1 each, and min_words no larger than max_words.",
        )
    corpus = list(documents)
    found = [_candidates(document, min_words, max_words) for document in corpus]
    times = Counter(key for candidates in found for key in {candidate.key for candidate in candidates})
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    skipped = 0
    for row, (document, candidates) in enumerate(zip(corpus, found, strict=True)):
        usable = [candidate for candidate in candidates if times[candidate.key] == 1]
        chosen = _chosen(document, usable, per_document, seed)
        if remove_from_document:
            chosen, corpus[row] = _taken_out(document, chosen)
        skipped += not chosen
        for number, candidate in enumerate(chosen):
            query = Query(f"pseudo:{document.id}#{number}", candidate.question)
            queries.append(query)
            qrels[query.id] = {document.id: 1}
    if skipped:
        logger.info("%d of %d documents gave no pseudo-question", skipped, len(corpus))
    return PseudoQuestions(queries, qrels, corpus, skipped, sum(count > 1 for count in times.values()))


def as_keywords(sentences: PseudoQuestions, common: Collection[str], seed: int) -> PseudoQuestions:
    """Make of every sentence what one might type into a search box: a few of its words, in order, lower case.

    Three to eight words; a document's second, fourth, ... question begins with words of its title instead (up to
    four), and goes on with one to four of the sentence. Such texts are encoded in a fraction of a sentence's time, and
    are harder to answer. A sentence with fewer than three words beside the common ones, or left with those of another,
    stays whole.

    Args:
        sentences: From `pseudo_questions`.
        common: Lower-case words that are left out, such as the stop words of the language.
        seed: Decides, with the query's id, how many words are kept, and which.
    """
    titles = {document.id: document.title for document in sentences.documents}
    made = []
    for query in sentences.queries:
        (document,) = sentences.qrels[query.id]
        made.append(_keywords(query, titles[document], common, seed))
    times = Counter(made)
    queries = [
        query if not words or times[words] > 1 else Query(query.id, words)
        for query, words in zip(sentences.queries, made, strict=True)
    ]
    return replace(sentences, queries=queries)


def _keywords(query: Query, title: str, common: Collection[str], seed: int) -> str:
    words = [word for word in map(str.lower, _KEYWORD.findall(query.text)) if word not in common]
    if len(words) < _FEWEST_KEYWORDS:
        return ""
    number = int.from_bytes(_draw(seed, query.id)[:4], "big")
    if title.strip() and _place_in_document(query) % 2:
        led = _some(title.lower().split(), _MOST_TITLE_WORDS, f"{seed}\0{query.id}\0title")
        return " ".join(led + _some(words, 1 + number % _MOST_TITLE_WORDS, f"{seed}\0{query.id}"))
    span = _MOST_KEYWORDS - _FEWEST_KEYWORDS + 1
    return " ".join(_some(words, _FEWEST_KEYWORDS + number % span, f"{seed}\0{query.id}"))


def _some(words: list[str], count: int, draw: str) -> list[str]:
    """At most `count` of the words, in order."""
    drawn = [hashlib.sha256(f"{draw}\0{place}".encode()).digest() for place in range(len(words))]
    return [words[place] for place in sorted(sorted(range(len(words)), key=drawn.__getitem__)[:count])]


def _place_in_document(query: Query) -> int:
    return int(query.id.rpartition("#")[2])


def sample_of(questions: PseudoQuestions, most: int, seed: int) -> PseudoQuestions:
    """At most `most` of the questions: the first ones of all documents go before any document's second."""
    if len(questions.queries) <= most:
        return questions

    def order(query: Query) -> tuple[int, bytes]:
        return _place_in_document(query), _draw(seed, query.id)

    kept = {query.id for query in sorted(questions.queries, key=order)[:most]}
    queries = [query for query in questions.queries if query.id in kept]
    return replace(questions, queries=queries, qrels={query.id: questions.qrels[query.id] for query in queries})


def _draw(seed: int, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()


def _candidates(document: Document, min_words: int, max_words: int) -> list[_Candidate]:
    """Return the usable sentences or, where there are none, lines."""
    text = document.text
    whole = {normalised(text), normalised(document.content)}
    for spans in (sentence_spans(text), [match.span() for match in _LINE.finditer(text)]):
        found: dict[str, _Candidate] = {}
        for start, end in spans:
            question = _question(text[start:end])
            if _usable(question, min_words, max_words) and (key := normalised(question)) not in whole:
                found.setdefault(key, _Candidate(question, key, [])).spans.append((start, end))
        if found:
            return list(found.values())
    return []


def _question(piece: str) -> str:
    """Return the sentence on one line, without the mark of a list item or comment before it."""
    return _BULLET.sub("", " ".join(piece.split()), count=1)


def _usable(question: str, min_words: int, max_words: int) -> bool:
    if question.startswith(("```", "~~~")) or not min_words <= len(_WORD.findall(question)) <= max_words:
        return False
    visible = sum(not character.isspace() for character in question)
    return 2 * sum(map(str.isalpha, question)) >= visible


def _chosen(document: Document, usable: Sequence[_Candidate], most: int, seed: int) -> list[_Candidate]:
    def order(candidate: _Candidate) -> bytes:
        return _draw(seed, document.id, candidate.key)

    return sorted(usable, key=order)[:most]


def _taken_out(document: Document, chosen: Sequence[_Candidate]) -> tuple[list[_Candidate], Document]:
    """Return the questions without which the document still has words, and the document without them."""
    kept: list[_Candidate] = []
    text = document.text
    for candidate in chosen:
        shorter = _without(document.text, [span for one in (*kept, candidate) for span in one.spans])
        if _WORD.search(shorter):
            kept.append(candidate)
            text = shorter
    return kept, Document(document.id, text, document.title, document.topic)


def _without(text: str, spans: Iterable[Span]) -> str:
    pieces = []
    at = 0
    for start, end in sorted(spans):
        behind = _TO_NEXT_LINE.match(text, end)
        end = behind.end() if behind else end
        line = text.rfind("\n", at, start) + 1
        # A whole line goes with its indentation.
        whole_line = text[end - 1] == "\n" and line > 0 and not text[line:start].strip()
        pieces.append(text[at : line if whole_line else start])
        at = end
    return "".join([*pieces, text[at:]])
