"""Hugging Face datasets: a folder that `save_to_disk` wrote, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.text.readers.pairs import resolve_columns, set_from_rows
from jasper_rag.text.readers.rows import Row, split_name
from jasper_rag.text.readers.subsets import Table, holds_judgements, set_from_subsets
from jasper_rag.text.records import RetrievalSet

PREFIX = "hf:"
INSTALL = 'pip install "jasper-rag[huggingface]"'
_SPLITS = frozenset({"train", "dev", "test"})
_JUDGED = ("qrels", "default")

_Splits = Mapping[str, Any]
"""Split, as the dataset names it -> `datasets.Dataset`."""


def read_hugging_face(
    source: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None
) -> RetrievalSet:
    """Read documents, pairs of question and document, or a set in three tables through the `datasets` library.

    A dataset with the parts (configurations, splits or sub-folders) corpus and queries, and qrels or default for
    the judgements, is read as three tables: `jasper_rag.text.readers.subsets.set_from_subsets`. Any other is one
    table of records: `jasper_rag.text.readers.pairs.set_from_rows`; splits named train, validation or dev, and test
    are kept where there are several. No code of a dataset is run.

    Args:
        source: `hf:owner/name` or `hf:owner/name:configuration`, or a folder written by `save_to_disk` (or one
            such folder for each of corpus, queries and qrels).
        name: Name of the set; the dataset's or folder's by default.
        columns: Our field names -> the dataset's columns, for one table only.

    Raises:
        InputError: The dataset cannot be had or is not such a set, or `datasets` is not installed.
    """
    library = _library(source)
    given = str(source)
    if given.startswith(PREFIX):
        repository, _, configuration = given.removeprefix(PREFIX).partition(":")
        if not repository or given.endswith(":"):
            raise InputError(f"{given!r} names no dataset.", remedy="Write hf:owner/name or hf:owner/name:config.")
        parts = _from_hub(library, repository, configuration, given)
        default = repository.rpartition("/")[2] + (f"-{configuration}" if configuration else "")
    else:
        parts = _from_disk(library, Path(source))
        default = Path(source).resolve().name
    with _faults(library, given):
        if {"corpus", "queries"} <= parts.keys():
            return _three_tables(parts, Path(given), name or default, columns)
        return _one_table(next(iter(parts.values())), Path(given), name or default, columns)


def is_saved_dataset(directory: Path) -> bool:
    """Say whether a folder, or its sub-folders corpus and queries, were written by `save_to_disk`."""
    return _is_saved(directory) or all(_is_saved(directory / part) for part in ("corpus", "queries"))


def _is_saved(directory: Path) -> bool:
    return any((directory / file).is_file() for file in ("state.json", "dataset_dict.json"))


def _library(source: str | Path) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "reading a Hugging Face dataset needs the datasets library.",
            remedy=f"Install it: {INSTALL}",
            path=source,
        ) from error
    library: ModuleType = datasets
    return library


def _from_hub(library: ModuleType, repository: str, configuration: str, given: str) -> dict[str, _Splits]:
    with _faults(library, given):
        if configuration:
            return {configuration: library.load_dataset(repository, configuration)}
        found = list(library.get_dataset_config_names(repository))
        if {"corpus", "queries"} <= set(found):
            wanted = ["corpus", "queries", *[part for part in _JUDGED if part in found][:1]]
        elif len(found) == 1 or "default" in found:
            wanted = ["default" if "default" in found else found[0]]
        else:
            raise InputError(
                f"this dataset has several configurations: {', '.join(found[:20])}.",
                remedy=f"Name one: {PREFIX}{repository}:{found[0] if found else 'configuration'}",
                path=given,
            )
        return {part: library.load_dataset(repository, part) for part in wanted}


def _from_disk(library: ModuleType, directory: Path) -> dict[str, _Splits]:
    if not is_saved_dataset(directory):
        raise InputError("no dataset here.", remedy="Give a folder that save_to_disk wrote.", path=directory)

    def load(folder: Path) -> _Splits:
        loaded = library.load_from_disk(str(folder))
        return loaded if isinstance(loaded, dict) else {"all": loaded}

    with _faults(library, str(directory)):
        if not _is_saved(directory):
            folders = {part: directory / part for part in ("corpus", "queries", *_JUDGED)}
            return {part: load(folder) for part, folder in folders.items() if folder.is_dir()}
        splits = load(directory)
    if {"corpus", "queries"} <= splits.keys():
        parts: dict[str, _Splits] = {part: {"all": splits[part]} for part in ("corpus", "queries")}
        judged = {split: data for split, data in splits.items() if holds_judgements(data.column_names)}
        return parts | ({"qrels": judged} if judged else {})
    return {"default": splits}


@contextmanager
def _faults(library: ModuleType, given: str) -> Iterator[None]:
    """Turn what `datasets` raises on a dataset it cannot load or read into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, library.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(
            f"the dataset cannot be read ({type(error).__name__}): {reason}",
            remedy="Check the name and the connection (HF_HUB_OFFLINE=1 uses downloaded datasets only), or give a "
            "folder that save_to_disk wrote.",
            path=given,
        ) from error


def _three_tables(
    parts: Mapping[str, _Splits], place: Path, name: str, columns: Mapping[str, str] | None
) -> RetrievalSet:
    if columns:
        raise InputError(
            "columns cannot be mapped where corpus, queries and qrels are apart.",
            remedy="Name them _id, title, text; query-id, corpus-id, score.",
            path=place,
        )
    judged = next((parts[part] for part in _JUDGED if part in parts), {})
    qrels = {_split(split): _table({split: data}, place) for split, data in judged.items()}
    return set_from_subsets(name, _table(parts["corpus"], place), _table(parts["queries"], place), qrels)


def _table(splits: _Splits, place: Path) -> Table:
    columns = list(dict.fromkeys(column for data in splits.values() for column in data.column_names))
    rows = (Row(place / split, number, values) for split, data in splits.items() for number, values in _numbered(data))
    return Table(place, columns, rows)


def _one_table(splits: _Splits, place: Path, name: str, columns: Mapping[str, str] | None) -> RetrievalSet:
    found = list(dict.fromkeys(column for data in splits.values() for column in data.column_names))
    named = len(splits) > 1 and "split" not in found and {_split(split) for split in splits} <= _SPLITS
    chosen = set(resolve_columns(found, place, columns).values())
    rows = []
    for split, data in splits.items():
        extra = {"split": _split(split)} if named else {}
        used = data.select_columns([column for column in data.column_names if column in chosen])
        rows += [Row(place / split, number, {**values, **extra}) for number, values in _numbered(used)]
    if not rows:
        raise InputError("no row.", remedy="Give a dataset with at least one row.", path=place)
    return set_from_rows(rows, [*found, *(["split"] if named else [])], place, name, columns)


def _numbered(data: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(data.with_format(None), start=1)


def _split(given: str) -> str:
    split = split_name(given)
    return "all" if split in ("qrels", "default") else split
