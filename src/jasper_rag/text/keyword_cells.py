"""Keywords as people write them into one cell of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jasper_rag.text.readers.rows import Row, shown

LEAST_PROBABILITY = 0.5
"""A keyword that comes with a probability below this is not one."""

_SEPARATORS = ";|,"
_TERM_FIELDS = ("term", "keyword", "topic_descriptor")


def row_keywords(row: Row, field: str) -> tuple[str, ...]:
    """The keywords in a field of a row, in their order, each once (letter case aside).

    Read are a list, or a text that holds: a JSON list; else keywords separated by ";", else by "|", else by ",". An
    item of a list is a text or an object with `term`, `keyword` or `topic_descriptor`, and perhaps a `probability`.

    Raises:
        InputError: Broken JSON, or an item that is no keyword; with file, line and field.
    """
    value = row.values.get(field)
    if value is None:
        return ()
    if isinstance(value, str):
        text = row.optional_text(field).strip()
        items = _json_list(text, row, field) if text.startswith("[") else _split(text)
    elif isinstance(value, list):
        items = value
    else:
        raise row.fault(f"keywords are a list or a text, got {shown(value)}.", "Write one text here.", field)
    found: dict[str, str] = {}
    for item in items:
        keyword = _keyword(item, row, field)
        if keyword:
            found.setdefault(keyword.casefold(), keyword)
    return tuple(found.values())


def _split(text: str) -> list[object]:
    separator = next((mark for mark in _SEPARATORS if mark in text), None)
    return [*text.split(separator)] if separator else [text]


def _json_list(text: str, row: Row, field: str) -> list[object]:
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise row.fault(
            f"begins as a JSON list, but is none: {error}.",
            'Write ["first", "second"] with double quotes, or first; second.',
            field,
        ) from error


def _keyword(item: object, row: Row, field: str) -> str:
    """The keyword of one item; "" for none."""
    if isinstance(item, Mapping):
        probability = item.get("probability", 1.0)
        if isinstance(probability, bool) or not isinstance(probability, int | float):
            raise row.fault(f"the probability {shown(probability)} is no number.", "Write it as 0.75.", field)
        if probability < LEAST_PROBABILITY:
            return ""
        item = next((item[name] for name in _TERM_FIELDS if name in item), item)
    if not isinstance(item, str):
        remedy = f"An item is a text, or an object with {' or '.join(_TERM_FIELDS)}."
        raise row.fault(f"{shown(item)} is no keyword.", remedy, field)
    return " ".join(item.split())
