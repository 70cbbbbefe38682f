"""Long documents as passages: by tokens with overlap, by heading or by sentence."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from jasper_rag.errors import InputError
from jasper_rag.text.headings import heading_starts
from jasper_rag.text.records import Document
from jasper_rag.text.sentences import sentence_spans

How = Literal["tokens", "headings", "sentences", "none"]
"""Where documents are cut: anywhere between words, at headings, between sentences, or nowhere."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage of a document.

    Args:
        document_id: The document it was cut from.
        text: `document.text[start:end]`, the white space behind it included.
        title: The document's title.
        start: First character.
        end: Behind the last character.
    """

    document_id: str
    text: str
    title: str
    start: int
    end: int


def count_words(text: str) -> int:
    """Return the number of words between white space: what counts as tokens where there is no tokenizer."""
    return len(text.split())


def chunk_document(
    document: Document,
    how: How = "tokens",
    size: int = 256,
    overlap: int = 32,
    count_tokens: Callable[[str], int] | None = None,
) -> list[Chunk]:
    """Cut a document into passages of at most `size` tokens.

    Without overlap the chunks' texts, joined, are the document's text. No chunk is blank, except the only one of
    a document that has a title and no text. "tokens" cuts between words, "sentences" puts as many whole sentences
    into a chunk as fit, "headings" makes every section a chunk (a heading without text of its own goes with the
    next section) and cuts too long ones like "sentences". A sentence over `size` is cut between words, a word over
    `size` between characters. The size is counted without surrounding white space and without the title.

    Args:
        document: What to cut.
        how: Where to cut.
        size: Most tokens of a chunk; not used by "none".
        overlap: Most tokens that a chunk repeats from the end of the one before: words for "tokens", whole
            sentences otherwise, never across a heading. Less, or nothing, where the next word would not fit.
        count_tokens: Tokens of a text, for example `lambda text: len(tokenizer.tokenize(text))`; a longer text
            must not have fewer. Words by default.

    Raises:
        InputError: An unknown `how`, a size below 1, an overlap below 0 or not below the size, or a single
            character that is already more than `size` tokens.
    """
    _check(how, size, overlap)
    text = document.text
    count = count_tokens or count_words
    spans: Iterable[tuple[int, int]]
    if how == "none" or not text.strip():
        spans = [(0, len(text))]
    elif how == "headings":
        spans = _by_heading(text, _Cutter(text, _sentence_cuts(text), count, size, overlap))
    elif count(text.strip()) <= size:
        spans = [(0, len(text))]
    else:
        cuts = _sentence_cuts(text) if how == "sentences" else _word_cuts(text)
        spans = _Cutter(text, cuts, count, size, overlap).windows(0, len(text))
    return [Chunk(document.id, text[start:end], document.title, start, end) for start, end in spans]


def chunk_corpus(
    documents: Iterable[Document],
    how: How = "tokens",
    size: int = 256,
    overlap: int = 32,
    count_tokens: Callable[[str], int] | None = None,
) -> tuple[list[Document], list[int]]:
    """Cut every document; judgements stay on documents, so each passage knows its document's row.

    A passage's id is the document's with `#0`, `#1`, ... behind it; it keeps title and topic. The text of a
    document that stays whole is unchanged (so its embedding can be reused); other passages lose the white space
    around them.

    Args:
        documents: The corpus.
        how: See `chunk_document`, as for the other arguments and for errors.
        size: Most tokens of a passage.
        overlap: Most tokens that two neighbours share.
        count_tokens: Tokens of a text; words by default.

    Returns:
        The passages in order, and for every passage the row of its document.
    """
    passages: list[Document] = []
    parents: list[int] = []
    for row, document in enumerate(documents):
        chunks = chunk_document(document, how, size, overlap, count_tokens)
        for number, chunk in enumerate(chunks):
            text = chunk.text.strip() if len(chunks) > 1 else chunk.text
            passages.append(Document(f"{document.id}#{number}", text, document.title, document.topic))
            parents.append(row)
    return passages, parents


def _check(how: str, size: int, overlap: int) -> None:
    if how not in get_args(How):
        known = ", ".join(get_args(How))
        raise InputError(f"documents cannot be cut by {how!r}.", remedy=f"Choose one of {known}.", field="how")
    if size < 1:
        raise InputError(f"a chunk of {size} tokens is empty.", remedy="Give a size of at least 1.", field="size")
    if not 0 <= overlap < size:
        raise InputError(
            f"an overlap of {overlap} tokens in chunks of {size}.",
            remedy=f"Give an overlap from 0 to {size - 1}, or larger chunks.",
            field="overlap",
        )


def _word_cuts(text: str) -> list[int]:
    """Return where a chunk may end: before every word but the first, and at the end."""
    return [*(match.start() for match in _WORD.finditer(text)), len(text)][1:]


def _sentence_cuts(text: str) -> list[int]:
    return [*(start for start, _ in sentence_spans(text)), len(text)][1:]


def _by_heading(text: str, cutter: _Cutter) -> Iterator[tuple[int, int]]:
    headings = set(heading_starts(text))
    starts = sorted({0, *headings})
    begin = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        lines = sum(any(map(str.isalnum, line)) for line in text[start:end].splitlines())
        if lines > (start in headings):  # more than the heading alone
            yield from cutter.windows(begin, end)
            begin = end
    if begin < len(text):
        yield from cutter.windows(begin, len(text))


class _Cutter:
    """Cuts windows out of one text.

    Args:
        text: The text.
        cuts: Increasing positions where a chunk may end, the last one the text's end.
        count: Tokens of a text.
        size: Most tokens of a window.
        overlap: Most tokens repeated.
    """

    def __init__(self, text: str, cuts: Sequence[int], count: Callable[[str], int], size: int, overlap: int) -> None:
        self.text = text
        self.cuts = cuts
        self.count = count
        self.size = size
        self.overlap = overlap
        self._words: list[int] | None = None

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of the windows from `start` to `stop`."""
        covered = start
        while True:
            end = self._end(start, stop)
            if end <= covered:  # the repeated part left no room for anything new
                start = covered
                continue
            if _WORD.search(self.text, end, stop) is None:
                end = stop
            yield start, end
            if end == stop:
                return
            start, covered = self._repeated_from(start, end), end

    def _fits(self, start: int, end: int, limit: int) -> bool:
        return self.count(self.text[start:end].strip()) <= limit

    def _end(self, start: int, stop: int) -> int:
        """Return the last position up to which a window from `start` fits, in sentences, words or characters."""
        first = _WORD.search(self.text, start, stop)
        visible = first.start() if first else start
        if self._words is None:
            self._words = _word_cuts(self.text)
        word = first.end() if first else stop
        for cuts in (self.cuts, self._words, range(visible + 1, word)):
            if end := self._last_fitting(start, visible, stop, cuts):
                return end
        raise InputError(
            f"one character counts {self.count(self.text[visible : visible + 1])} tokens; a chunk has {self.size}.",
            remedy="Give larger chunks, or a count_tokens that leaves special tokens out.",
            field="size",
        )

    def _last_fitting(self, start: int, visible: int, stop: int, cuts: Sequence[int]) -> int:
        """Return the last of the cuts behind `visible`, or `stop`, up to which a window fits, or 0 where none does.

        Doubling, then halving: few texts are counted, and none much longer than a window.
        """
        offset, limit = bisect_right(cuts, visible), bisect_left(cuts, stop)
        ends = limit - offset + 1  # the last is stop itself

        def at(index: int) -> int:
            return stop if index == ends - 1 else cuts[offset + index]

        low, high, probe = -1, ends, 0
        while high - low > 1:
            if self._fits(start, at(probe), self.size):
                low = probe
            else:
                high = probe
            probe = min(2 * probe + 1, ends - 1) if high == ends else (low + high) // 2
        return at(low) if low >= 0 else 0

    def _repeated_from(self, start: int, end: int) -> int:
        """Return where the next window starts: at most `overlap` tokens before `end`, behind `start`."""
        begin = end
        for index in range(bisect_left(self.cuts, end) - 1, bisect_right(self.cuts, start) - 1, -1):
            if not self._fits(self.cuts[index], end, self.overlap):
                break
            begin = self.cuts[index]
        return begin
