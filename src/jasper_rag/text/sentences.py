"""Where sentences begin and end: rules only, the same answer every time, nothing to download."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from jasper_rag.text.headings import fenced_lines

Span = tuple[int, int]
"""Start and end (exclusive) in characters."""

_NEVER_LAST = """
    dr mr mrs ms prof rev hon capt lt sgt mt vs cf viz al resp approx ca e.g i.e esp incl bzw z.b d.h
"""
NEVER_LAST = frozenset(_NEVER_LAST.split())
"""Abbreviations (lower case, without the last full stop) that are followed by more of their sentence."""

_BEFORE_NUMBER = """
    no nos vol sec ch art fig figs eq eqs ref refs p pp ed nr
"""
BEFORE_NUMBER = frozenset(_BEFORE_NUMBER.split())
"""Abbreviations before a number; words like "no" end a sentence before anything else."""

_MAY_BE_LAST = """
    etc inc ltd co corp dept univ est st sr jr col gen min max sp spp eds ph.d m.d b.sc m.sc jan feb mar apr jun
    jul aug sep sept oct nov dec usw
"""
MAY_BE_LAST = frozenset(_MAY_BE_LAST.split())
"""Abbreviations that end a sentence only where a word of `STARTERS` follows; so do initials and A.B.C."""

_STARTERS = """
    the a an this that these those it he she they we i you his her their our its in on at by for from with as if
    when while after before since although though however but and so there here what who why how which then thus
    moreover furthermore therefore no not most many some several all each both der die das ein eine es sie er
    wir le la les un une il elle el los las
"""
STARTERS = frozenset(_STARTERS.split())
"""Words (lower case) that begin a sentence where they stand, with a capital, behind an abbreviation or initial."""

_WIDE = "\u3002\uff01\uff1f\uff61\u0964\u061f"  # the full stops and marks of Chinese, Japanese, Hindi, Arabic
_CLOSERS = r"\"'\u201d\u2019»)\]」』\uff09】》"
# Possessive, and never from the middle of a run of marks: linear in a text of nothing but full stops.
_TERMINATOR = re.compile(rf"(?<![.!?…])[.!?…]++[{_CLOSERS}]*+(?=\s|$)|[{_WIDE}]++[{_CLOSERS}]*+")
_WORD_AFTER = re.compile(r"\s*[\"'\u201c\u2018«(\[]*([^\W_]{0,40})")
_COUNTER = re.compile(r"(?:\d{1,3}\.)*\d{1,3}|[ivxlc]{1,5}|[a-z]")
_LETTERS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_LONGEST_TOKEN = 20
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_ITEM = re.compile(r"\s*(?:[-*+•–]|\d{1,3}[.)]|\(?[a-z]\))\s+\S")  # noqa: RUF001
_HEADING = re.compile(r" {0,3}#{1,6}\s+\S")
_RULE = re.compile(r"\s*([=\-~^*_#]{3,})\s*$")
_COMMENT = re.compile(r"\s*(?:#|//|/\*|\*|--)")
_CODE_LINE = re.compile(
    r"""\s*(?:def|class|return|import|from|if|elif|else|for|while|try|except|with|raise|yield|assert|async|await|public
        |private|static|const|let|var|func|fn|function|struct|enum|package|using|void|int|echo)\b.*[:;{}()=\[\],\\"]\s*$
    | \s*(?:return|raise|yield|pass|break|continue|import)\b(?:\s+\S+){0,3}\s*$
    | .*[;{}]\s*$
    | \s*[)\]}]+[,;:]?\s*$
    | \s*[\w.\[\]"']+(?:,\s*[\w.]+)*\s*[-+*/|&%:]?=(?!=)\s*\S
    | \s*[\w.]+\(.*[)(,:]\s*$
    | \s*@[\w.]+
    | (?:\t|\ {2,}).*[=(){}\[\];_<>]""",
    re.VERBOSE,
)


def sentence_spans(text: str) -> list[Span]:
    """Return the spans of the sentences, in order, without the white space around them.

    Together the spans hold every visible character of the text. A full stop, question or exclamation mark ends a
    sentence where white space follows, unless it belongs to an abbreviation, an initial, a number, a list's
    counter or inline code, or the next word goes on in lower case (in a text that has capitals at all); the full
    stops of Chinese, Japanese and Hindi need no white space. Blank lines, headings and list items end a sentence
    too. A fenced code block is one span. In a text that is code (see `looks_like_code`) every line is one.
    """
    spans: list[Span] = []
    if looks_like_code(text):
        for start, end in _lines(text):
            spans += _trimmed(text, start, end)
        return spans
    cased = any(character.isupper() for character in text)
    for start, end, fenced in _blocks(text):
        if not text[start:end].strip():
            continue
        spans += _trimmed(text, start, end) if fenced else _block_spans(text, start, end, cased)
    return spans


def looks_like_code(text: str) -> bool:
    """Say whether most lines of a text (of at least two, comments aside) have the form of program code."""
    lines = [line for line in text.splitlines() if line.strip() and not _COMMENT.match(line)]
    return len(lines) > 1 and 2 * sum(_CODE_LINE.match(line) is not None for line in lines) > len(lines)


def _lines(text: str) -> Iterator[Span]:
    at = 0
    for line in text.splitlines(keepends=True):
        yield at, at + len(line)
        at += len(line)


def _trimmed(text: str, start: int, end: int) -> list[Span]:
    piece = text[start:end]
    visible = piece.strip()
    if not visible:
        return []
    start += len(piece) - len(piece.lstrip())
    return [(start, start + len(visible))]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, whether it is a fenced code block): paragraphs, headings and list items."""
    begin = 0
    before = False
    for (start, end), fenced in zip(_lines(text), fenced_lines(text.splitlines(keepends=True)), strict=True):
        line = text[start:end]
        heading = not fenced and _HEADING.match(line) is not None
        if fenced != before or heading or (not fenced and _ITEM.match(line)):
            yield begin, start, before
            begin, before = start, fenced
        # The line of marks under a heading stays with it.
        if heading or (not fenced and (not line.strip() or _RULE.match(line))):
            yield begin, end, False
            begin = end
    yield begin, len(text), before


def _block_spans(text: str, start: int, end: int, cased: bool) -> Iterator[Span]:
    code = [position for match in _INLINE_CODE.finditer(text, start, end) for position in match.span()]
    begin = start
    for match in _TERMINATOR.finditer(text, start, end):
        inside_code = bisect_left(code, match.start()) % 2 == 1
        if not inside_code and _ends_sentence(text, begin, match, end, cased):
            yield from _trimmed(text, begin, match.end())
            begin = match.end()
    yield from _trimmed(text, begin, end)


def _ends_sentence(text: str, begin: int, match: re.Match[str], end: int, cased: bool) -> bool:
    mark = match.group()
    if mark[0] in _WIDE:
        return True
    following = _WORD_AFTER.match(text, match.end(), end)
    word = following.group(1) if following else ""
    if cased and word[:1].islower():
        return False
    if mark[0] != "." or mark[1:2] == ".":
        return True
    return not (word and _abbreviates(text, begin, match.start(), word))


def _abbreviates(text: str, begin: int, stop: int, following: str) -> bool:
    """Say whether the full stop at `stop` belongs to the token before it, given the next word."""
    tokens = text[max(begin, stop - _LONGEST_TOKEN) : stop].split()
    if not tokens or text[stop - 1].isspace():
        return False  # a full stop that stands alone, as in tokenised text
    token = tokens[-1].lstrip("\"'\u201c\u2018«([{")
    lower = token.lower()
    if lower in NEVER_LAST or (lower in BEFORE_NUMBER and following[:1].isdigit()):
        return True
    if len(tokens) == 1 and stop - begin < _LONGEST_TOKEN and _COUNTER.fullmatch(lower):
        return True  # the counter of a list or heading: "1. Install it"
    initials = _LETTERS.fullmatch(token) is not None and ("." in token or token.isupper())
    return (initials or lower in MAY_BE_LAST) and not (following.lower() in STARTERS and following[0].isupper())
