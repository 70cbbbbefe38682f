"""Where sections begin: Markdown, underlined and numbered headings."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_HEADING = 100
"""Characters; a longer line is no heading, however it is marked."""

_ATX = re.compile(r" {0,3}#{1,6}[ \t]+\S")
_FENCE = re.compile(r"\s*(```|~~~)")
_UNDERLINE = re.compile(r"([=\-~^\"'*+#<>`._:])\1{2,}[ \t]*")
_NUMBERED = re.compile(r"(\d{1,3}(?:\.\d{1,3})*)\.?[ \t]+(?=[^\W\d_])\S.*")


def heading_starts(text: str) -> list[int]:
    """Return the position of every line that begins a section.

    Headings are: `# Markdown` (one to six marks), a line that stands alone over a line of one repeated
    punctuation mark (reStructuredText, and Markdown's === and ---; an overline of the same mark belongs to it),
    and `2.1 Numbered` lines with a capital, between blank lines and not part of a list. Nothing inside a fenced
    code block is one.
    """
    lines = text.splitlines(keepends=True)
    starts = []
    position = 0
    fenced = fenced_lines(lines)
    for number, line in enumerate(lines):
        if not fenced[number] and len(line) <= LONGEST_HEADING and _is_heading(lines, number):
            overlined = number > 0 and _underlines(lines[number - 1], line) and _underlines(lines[number + 1], line)
            starts.append(position - len(lines[number - 1]) if overlined else position)
        position += len(line)
    return starts


def fenced_lines(lines: Sequence[str]) -> list[bool]:
    """Say of every line whether it belongs to a fenced code block (``` or ~~~), the fences included."""
    fenced = []
    fence = ""
    above = ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark and not fence and above.strip() and not line.strip(" \t\r\n~"):
            # Tildes as long as the line of text above them underline it, in reStructuredText.
            mark = None if len(line.strip()) >= max(len(above.strip()), 4) else mark
        fenced.append(bool(fence or mark))
        if mark and fence in ("", mark.group(1)):
            fence = "" if fence else mark.group(1)
        above = line
    return fenced


def _is_heading(lines: Sequence[str], number: int) -> bool:
    line = lines[number]
    if _ATX.match(line):
        return True
    before = lines[number - 1] if number else ""
    after = lines[number + 1] if number + 1 < len(lines) else ""
    if not line.strip() or _UNDERLINE.fullmatch(line.rstrip("\r\n")):
        return False
    if _underlines(after, line) and (not before.strip() or _underlines(before, line)):
        return True
    return not before.strip() and not after.strip() and _is_numbered(lines, number)


def _underlines(line: str, title: str) -> bool:
    """Say whether a line of marks may stand under this title."""
    mark = _UNDERLINE.fullmatch(line.rstrip("\r\n"))
    if mark is None:
        return False
    # Markdown takes === and --- of any length; reStructuredText wants the title's length.
    return mark.group(1) in "=-" or len(line.rstrip()) >= len(title.rstrip())


def _is_numbered(lines: Sequence[str], number: int) -> bool:
    line = lines[number].rstrip()
    match = _NUMBERED.fullmatch(line)
    if match is None or line.endswith((".", ";", ":", ",", "!", "?")):
        return False
    first = line[len(match.group(1)) :].lstrip(". \t")[:1]
    if first.islower():
        return False
    below = next((one.strip() for one in lines[number + 1 :] if one.strip()), "")
    sibling = _NUMBERED.fullmatch(below)
    # A number of the same depth on the next line of text: items of a list, not headings without sections.
    return bool(below) and (sibling is None or sibling.group(1).count(".") != match.group(1).count("."))
