"""Parquet: one file of records, or a folder of files (splits of one table, or corpus, queries and qrels)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.text.readers.pairs import resolve_columns, set_from_rows
from jasper_rag.text.readers.rows import Row, split_name
from jasper_rag.text.readers.subsets import Table, holds_judgements, set_from_subsets
from jasper_rag.text.records import RetrievalSet

logger = logging.getLogger(__name__)

SUFFIX = ".parquet"
INSTALL = 'pip install "jasper-rag[parquet]"'
SUBSETS = ("corpus", "queries", "qrels")
"""Names of files or folders that make a folder of Parquet one set in three tables."""

_BUFFER = 2**20
"""Bytes read at a time."""

_SPLITS = frozenset({"train", "dev", "test"})
_SHARD = re.compile(r"[-_.]\d+-of-\d+.*$")


def read_parquet(path: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None) -> RetrievalSet:
    """Read documents, or pairs of question and document, from one Parquet file.

    See `jasper_rag.text.readers.pairs.set_from_rows` for the fields and for how rows are merged. Only the
    columns that are used are read. Messages give the 1-based number of the row where text files have a line.

    Args:
        path: The `.parquet` file.
        name: Name of the set; the file's stem by default.
        columns: Our field names -> the file's columns, where they differ from the defaults.

    Raises:
        InputError: Anything wrong with the file, or pyarrow is not installed.
    """
    path = Path(path)
    return _one_table([path], path, name or path.stem, columns)


def read_parquet_folder(
    directory: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None
) -> RetrievalSet:
    """Read a folder of Parquet files, sub-folders included, hidden ones left out.

    With files or folders named corpus and queries it is the layout of MTEB: see
    `jasper_rag.text.readers.subsets.set_from_subsets`; judgements are in `qrels`, or in any other file with the
    columns query-id and corpus-id, their split named by the file (`test-00000-of-00001.parquet`). Otherwise all
    files are one table of records, as in `read_parquet`; where all are named train, dev (validation) or test,
    that is their split.

    Args:
        directory: The folder.
        name: Name of the set; the folder's name by default.
        columns: Our field names -> the files' columns, for one table only.

    Raises:
        InputError: Anything wrong with the files, or pyarrow is not installed.
    """
    directory = Path(directory)
    files = list(parquet_files(directory))
    if not files:
        raise InputError("no .parquet file in this folder.", remedy="Put some in it.", path=directory)
    name = name or directory.resolve().name
    subsets: dict[str, list[Path]] = {}
    for path in files:
        subsets.setdefault(_subset(path, directory), []).append(path)
    if not {"corpus", "queries"} <= subsets.keys():
        return _one_table(files, directory, name, columns)
    if columns:
        raise InputError(
            "columns cannot be mapped where corpus, queries and qrels are apart.",
            remedy="Name them _id, title, text; query-id, corpus-id, score.",
            path=directory,
        )
    return _three_tables(subsets, directory, name)


def parquet_files(directory: Path) -> Iterator[Path]:
    """Yield the folder's Parquet files in a fixed order."""
    for folder, below, files in os.walk(directory):
        below[:] = sorted(one for one in below if not one.startswith("."))
        for file in sorted(files):
            if file.lower().endswith(SUFFIX) and not file.startswith("."):
                yield Path(folder) / file


def _one_table(files: Sequence[Path], place: Path, name: str, columns: Mapping[str, str] | None) -> RetrievalSet:
    names = {path: _columns(path) for path in files}
    found = list(dict.fromkeys(column for columns_of in names.values() for column in columns_of))
    splits = {path: _split(path) for path in files}
    named = len(files) > 1 and "split" not in found and set(splits.values()) <= _SPLITS
    chosen = set(resolve_columns(found, place, columns).values())
    rows: list[Row] = []
    for path in files:
        used = [column for column in names[path] if column in chosen]
        extra = {"split": splits[path]} if named else {}
        rows += (Row(row.path, row.line, {**row.values, **extra}) for row in parquet_rows(path, used))
    if not rows:
        raise InputError("no row.", remedy="Add one row per record.", path=place)
    return set_from_rows(rows, [*found, *(["split"] if named else [])], place, name, columns)


def _three_tables(subsets: Mapping[str, Sequence[Path]], directory: Path, name: str) -> RetrievalSet:
    judged: dict[str, list[Path]] = {}
    for path in [*subsets.get("qrels", ()), *subsets.get("", ())]:
        if path in subsets.get("qrels", ()) or holds_judgements(_columns(path)):
            judged.setdefault(_split(path), []).append(path)
        else:
            logger.warning("%s: left out, it holds neither documents nor queries nor judgements", path)
    qrels = {split: _table(paths, directory / "qrels") for split, paths in judged.items()}
    corpus, queries = (_table(subsets[subset], directory / subset) for subset in ("corpus", "queries"))
    return set_from_subsets(name, corpus, queries, qrels)


def _table(files: Sequence[Path], place: Path) -> Table:
    columns = _columns(files[0])
    rows = (row for path in files for row in parquet_rows(path, _columns(path)))
    return Table(files[0] if len(files) == 1 else place, columns, rows)


def _subset(path: Path, root: Path) -> str:
    """Return which of `SUBSETS` a file is part of, or ""."""
    parts = [*path.relative_to(root).parts[:-1], _SHARD.sub("", path.stem)]
    return next((part.lower() for part in parts if part.lower() in SUBSETS), "")


def _split(path: Path) -> str:
    """Return the split a file is named after; "all" where it is named after none."""
    stem = _SHARD.sub("", path.stem)
    split = split_name(path.parent.name if stem.isdigit() else stem)
    return "all" if split in (*SUBSETS, "default") else split


def _columns(path: Path) -> list[str]:
    with opened_parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield a file's rows with these columns; a row's line is its number, counted from 1.

    Raises:
        InputError: The file cannot be read, or pyarrow is not installed.
    """
    number = 0
    with opened_parquet(path) as file:
        for batch in file.iter_batches(batch_size=1024, columns=list(columns)):
            for values in batch.to_pylist():
                number += 1
                yield Row(path, number, values)


@contextmanager
def opened_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file; whatever is wrong with it, while it is open, becomes an `InputError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("reading Parquet needs pyarrow.", remedy=f"Install it: {INSTALL}", path=path) from error
    try:
        # Otherwise a column's whole row group, often a million rows, is in memory at a time.
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except FileNotFoundError:
        raise InputError("this file does not exist.", remedy="Check the path.", path=path) from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"not a readable Parquet file: {reason}", remedy="Write or download the file again.", path=path
        ) from error
