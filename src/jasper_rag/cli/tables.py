"""Plain tables and lines on stdout, whatever characters the texts hold."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 120


def put_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: the first column to the left, numbers to the right.

    Args:
        heads: Names of the columns.
        rows: As many texts each.
    """
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        # As text: brackets in a name are no markup.
        table.add_row(*(Text(plain(cell)) for cell in row))
    # Piped output has no terminal to ask for its width; the table must not be folded there.
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False).print(table)


def plain(text: str, columns: int | None = None) -> str:
    """One line without control characters, shortened to `columns`; texts of others must not steer the terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if columns is None else textwrap.shorten(line, columns, placeholder=" ...")
