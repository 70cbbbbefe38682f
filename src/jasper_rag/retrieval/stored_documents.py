"""Documents that a retriever keeps: their ids, and what may stand beside them."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from jasper_rag.embedding.vectors import excerpt, require_texts, require_unicode
from jasper_rag.errors import InputError


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document and what its owner keeps with it."""

    id: str
    text: str
    metadata: Mapping[str, Any]


def require_filled(texts: Sequence[str], what: str, many: str) -> None:
    """Refuse a lone string, what is no text, and blank texts.

    Args:
        texts: The texts.
        what: What one of them is called.
        many: What they are called together.

    Raises:
        InputError: There is such a one.
    """
    if isinstance(texts, str):
        problem = f"one text ({excerpt(texts)}) where {many} are expected."
        raise InputError(problem, field=many, remedy="Put it in a list.")
    require_texts(texts)
    for row, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{what} {row} is blank.", field=many, remedy="Leave it out, or give it a text.")


def new_ids(ids: Sequence[str] | None, documents: int, taken: Container[str], first: int) -> list[str]:
    """Ids for new documents.

    Args:
        ids: As given; None: running numbers that are not taken.
        documents: How many.
        taken: Ids in use.
        first: Number to begin with.

    Raises:
        InputError: Another number of ids, or one is empty or taken.
    """
    if ids is None:
        return list(islice((str(number) for number in count(first) if str(number) not in taken), documents))
    if isinstance(ids, str) or len(ids) != documents:
        problem = f"{len(ids)} ids for {documents} documents."
        raise InputError(problem, field="ids", remedy="Give one id per document.")
    given: set[str] = set()
    for name in ids:
        if not isinstance(name, str) or not name:
            raise InputError(f"{name!r} is no id.", field="ids", remedy="Give texts that are not empty.")
        require_unicode(name, "the id", "ids")
        if name in taken or name in given:
            remedy = "Delete the old document first, or give another id."
            raise InputError(f"the id {name!r} is taken.", field="ids", remedy=remedy)
        given.add(name)
    return list(ids)


def checked_metadata(metadata: Sequence[Mapping[str, Any]] | None, documents: int) -> list[dict[str, Any]]:
    """Metadata of that many documents, copied; {} for each where none was given.

    Raises:
        InputError: Another number, or one that is no mapping or that JSON cannot hold.
    """
    if metadata is None:
        return [{} for _ in range(documents)]
    if len(metadata) != documents:
        problem = f"metadata of {len(metadata)} for {documents} documents."
        raise InputError(problem, field="metadata", remedy="Give one mapping per document, {} where there is none.")
    return [_as_json(value, row) for row, value in enumerate(metadata)]


def _as_json(value: Mapping[str, Any], row: int) -> dict[str, Any]:
    """What a file would give back: the same before saving and after."""
    try:
        kept = json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8"))
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"metadata {row} cannot be kept: {error}."
        raise InputError(problem, field="metadata", remedy="Use texts, numbers, lists and mappings.") from error
    if not isinstance(kept, dict):
        raise InputError(f"metadata {row} is {value!r}.", field="metadata", remedy="Give a mapping, such as {}.")
    return kept
