"""Which reader a path needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.beir import read_beir
from jasper_rag.text.readers.folder import TEXT_SUFFIXES, read_text_file, read_text_folder, text_files
from jasper_rag.text.readers.huggingface import PREFIX, is_saved_dataset, read_hugging_face
from jasper_rag.text.readers.jsonl import read_jsonl
from jasper_rag.text.readers.parquet import SUFFIX, parquet_files, read_parquet, read_parquet_folder
from jasper_rag.text.readers.tables import DELIMITERS, read_table
from jasper_rag.text.readers.utf8 import require_utf8_name
from jasper_rag.text.records import RetrievalSet

EXPECTED = (
    "Expected a BEIR directory (corpus.jsonl, queries.jsonl, qrels/*.tsv), a .jsonl file, a .csv or .tsv file with "
    "a header, a .parquet file or a folder of them, a Hugging Face dataset (a folder that save_to_disk wrote, or "
    "hf:owner/name), a .txt or .md file, or a folder of .txt and .md files."
)
FIXED = "Its fields have fixed names: _id, title, text; query-id, corpus-id, score. Leave the columns out."
_LISTED = 8


def read_retrieval_set(
    path: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None
) -> RetrievalSet:
    """Read documents, queries and judgements from whatever `path` is.

    A directory with corpus.jsonl or queries.jsonl is read as BEIR, one that `datasets` saved as such, one with
    Parquet files as those, another directory as a folder of texts; a file by its suffix (`.jsonl`, `.csv`, `.tsv`,
    `.parquet`, `.txt`, `.md`); `hf:owner/name[:configuration]` is a dataset of the Hugging Face hub.

    Args:
        path: A file or directory, or `hf:...`.
        name: Name of the set; the file's stem or the directory's name by default.
        columns: Our field names -> the file's, for tables (`.jsonl`, `.csv`, `.tsv`, Parquet, datasets) only; see
            `jasper_rag.text.readers.pairs.FIELD_NAMES`.

    Raises:
        InputError: Nothing is there, the layout is not known (the message lists what was found), columns are
            named for what has none, or the data is bad.
    """
    if str(path).startswith(PREFIX):
        return read_hugging_face(path, name, columns)
    path = Path(path)
    if not os.path.exists(path):  # Path.exists raises where a name is too long or a folder closed
        beside = path.parent if path.parent.is_dir() else None
        found = "" if beside is None else f"{beside} holds {_listing(beside)}. "
        raise InputError("nothing exists at this path.", remedy=found + EXPECTED, path=path)
    require_utf8_name(path)
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".jsonl":
        return read_jsonl(path, name, columns)
    if path.is_file() and suffix in DELIMITERS:
        return read_table(path, name, columns)
    if path.is_file() and suffix == SUFFIX:
        return read_parquet(path, name, columns)
    if path.is_dir() and (found_table := _read_tables(path, name, columns)):
        return found_table
    if path.is_dir():
        return _read_directory(path, name, columns)
    if suffix in TEXT_SUFFIXES:
        _refuse_columns(columns, path)
        return read_text_file(path, name)
    raise InputError(f"files of type {suffix or '(no suffix)'!r} cannot be read.", remedy=EXPECTED, path=path)


def _read_tables(path: Path, name: str | None, columns: Mapping[str, str] | None) -> RetrievalSet | None:
    """Read a directory of tables whose columns have names; None if it is no such directory."""
    if _is_beir(path):
        return None
    if is_saved_dataset(path):
        return read_hugging_face(path, name, columns)
    if any(True for _ in parquet_files(path)):
        return read_parquet_folder(path, name, columns)
    return None


def _is_beir(path: Path) -> bool:
    return any((path / file).exists() for file in ("corpus.jsonl", "queries.jsonl"))


def _read_directory(path: Path, name: str | None, columns: Mapping[str, str] | None) -> RetrievalSet:
    if _is_beir(path):
        if columns:
            raise InputError("a BEIR directory has no columns to name.", remedy=FIXED, path=path)
        return read_beir(path, name)
    if any(True for _ in text_files(path)):
        _refuse_columns(columns, path)
        return read_text_folder(path, name)
    raise InputError(f"this directory holds {_listing(path)}.", remedy=EXPECTED, path=path)


def _refuse_columns(columns: Mapping[str, str] | None, path: Path) -> None:
    if columns:
        remedy = "Leave the columns out, or give a table: .csv, .tsv, .jsonl, .parquet, a Hugging Face dataset."
        raise InputError("plain texts have no columns to name.", remedy=remedy, path=path)


def _listing(directory: Path) -> str:
    """Return the first few entries of a directory, for a message."""
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in directory.iterdir())
    except OSError as error:
        return f"nothing readable ({error.strerror})"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) + more) or "nothing"
