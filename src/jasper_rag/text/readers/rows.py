"""One record of a file that still knows its file and line, so that a bad field can be reported where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag.errors import InputError

SHOWN = 60
"""Characters of an offending value that a message repeats."""

SPLIT_ALIASES: Mapping[str, str] = {"val": "dev", "valid": "dev", "validation": "dev"}
"""Other spellings of a split's name, lower case."""


def split_name(given: str) -> str:
    """Return the split's name in our spelling: lower case, and "dev" for val, valid and validation."""
    lower = given.strip().lower()
    return SPLIT_ALIASES.get(lower, lower)


@dataclass(frozen=True, slots=True)
class Row:
    """One record: its place and its named values.

    Args:
        path: The file it comes from.
        line: 1-based line it starts at.
        values: Field name to value, as parsed.
    """

    path: Path
    line: int
    values: Mapping[str, Any]

    def fault(self, problem: str, remedy: str, field: str | None = None) -> InputError:
        """Return (not raise) an error that names this row's file and line."""
        return InputError(problem, remedy=remedy, path=self.path, line=self.line, field=field)

    def identifier(self, field: str) -> str:
        """Return a non-empty id without surrounding white space; whole numbers become strings.

        Raises:
            InputError: The field is missing, empty, of another type, or holds a tab or line break.
        """
        value = self.values.get(field)
        if value is None:
            raise self.fault("the id is missing.", f"Give every row a unique string under {field!r}.", field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.fault(f"an id must be a string, got {shown(value)}.", "Write it in quotes.", field)
        identifier = self._encodable(value, field).strip()
        if not identifier:
            raise self.fault("the id is empty.", f"Give every row a unique string under {field!r}.", field)
        if any(mark in identifier for mark in "\t\r\n"):
            raise self.fault(
                f"the id {shown(identifier)} holds a tab or a line break.",
                "Remove it: qrels and run files separate ids by tabs and lines.",
                field,
            )
        return identifier

    def text(self, field: str) -> str:
        """Return a text that has at least one visible character.

        Raises:
            InputError: The field is missing, blank or not a string.
        """
        if field not in self.values:
            found = ", ".join(map(repr, self.values)) or "nothing"
            raise self.fault(f"the field is missing; this row has {found}.", "Add it, or drop the row.", field)
        value = self.optional_text(field)
        if not value.strip():
            raise self.fault("the text is empty.", "Fill it, or drop the row.", field)
        return value

    def optional_text(self, field: str) -> str:
        """Return the text, or "" where the field is absent or null.

        Raises:
            InputError: The value is not a string.
        """
        value = self.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.fault(f"a string is expected, got {shown(value)}.", "Write one string here.", field)
        return self._encodable(value, field)

    def _encodable(self, value: str, field: str) -> str:
        # A JSON escape such as "\ud800" parses into half a character, which no later file could hold.
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            half = value[error.start]
            raise self.fault(
                f"half a character (U+{ord(half):04X}, an unpaired surrogate) at position {error.start}.",
                "Write the character itself, or both halves of the escape.",
                field,
            ) from error
        return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dictionary of a JSON object (as an `object_pairs_hook`), which may give a key once only.

    Raises:
        ValueError: A key stands twice; the JSON standard leaves open which value counts.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def shown(value: object) -> str:
    """Return a short `repr` with the type's name, for messages."""
    text = repr(value)
    return f"{text if len(text) <= SHOWN else text[:SHOWN] + '...'} ({type(value).__name__})"


class UniqueIds:
    """Remembers at which line each id stood, to refuse its second appearance by naming both lines."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}

    def add(self, row: Row, field: str) -> str:
        """Return the row's id.

        Raises:
            InputError: The id is bad, or an earlier row has it.
        """
        identifier = row.identifier(field)
        first = self._lines.setdefault(identifier, row.line)
        if first != row.line:
            raise row.fault(
                f"the id {identifier!r} was already given at line {first}.",
                f"Make ids unique: change line {first} or line {row.line}.",
                field,
            )
        return identifier
