"""Text into HTML: escaping, clipping and the way numbers are written."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

MISSING = "\N{EN DASH}"
"""Stands in a table where there is no number."""

_MINUS = "\N{MINUS SIGN}"
_CUT = "\N{NO-BREAK SPACE}…"
# Not allowed in HTML, escaped or not; tab and newline are.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def escape(text: object) -> str:
    """Text as HTML, for element content and quoted attributes alike.

    Half surrogate pairs, which no file can hold, and control characters become "?" and spaces.
    """
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return html.escape(_CONTROL.sub(" ", whole), quote=True)


def clip(text: str, columns: int) -> str:
    """The beginning of `text` on one line, cut at a word where there is one; wide characters take two columns.

    Args:
        text: Any text.
        columns: Width of the result at most, the ellipsis left out.
    """
    # The few characters that can be shown, before the work on each of them; documents may be books.
    line = " ".join(text[: 8 * columns].split())
    used = 0
    for position, character in enumerate(line):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            whole_words = line[: position + 1].rpartition(" ")[0]
            # Scripts without spaces, and identifiers, are cut where the columns end.
            kept = whole_words if len(whole_words) > position // 2 else line[:position]
            return kept.rstrip() + _CUT
    return line if len(text) <= 8 * columns else line + _CUT


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals; a dash for none."""
    # Adding zero after rounding turns a negative zero into zero.
    return MISSING if value is None else f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", _MINUS)


def signed(difference: float) -> str:
    """A difference with three decimals and its sign; zero has none."""
    rounded = round(difference, 3)
    return f"{'+' if rounded > 0 else ''}{fixed(rounded)}"


def p_value(value: float | None) -> str:
    """A p-value as papers write it: three decimals, "< 0.001" below them."""
    if value is not None and value < 0.001:
        return "< 0.001"
    return fixed(value)


def seconds(value: float | None) -> str:
    """A duration in the unit people would use; a dash for none and for zero."""
    if not value:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def lines(parts: Iterable[str]) -> str:
    """Parts of a page below each other; empty ones are left out."""
    return "\n".join(part for part in parts if part)
