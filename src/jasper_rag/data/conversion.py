"""A dataset directory in another storage format."""

from __future__ import annotations

import shutil
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_files import replacing_directory, write_json
from jasper_rag.data.checksums import named_files
from jasper_rag.data.dataset_directory import StorageFormat, open_dataset
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.data.storage.hdf5_file import write_hdf5
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.errors import InputError

TargetFormat = Literal["safetensors", "pt", "hdf5"]

_ORIGINAL_KEYS = frozenset(
    {
        *(layout.EMBEDDING_DIM_KEY, layout.N_NEG_KEY, *layout.COUNT_KEYS, layout.CLUSTERING_SOURCE_KEY),
        *(layout.SPLIT_RATIOS_KEY, layout.STEERING_PROBABILITIES_KEY, layout.CURRICULUM_KEY),
        *(layout.STORAGE_FORMAT_KEY, layout.RANDOM_SEED_KEY, layout.CSV_SPLITS_KEY, layout.INCLUDE_INSPECTION_KEY),
    }
)
"""All that config.json may hold for the original project's builder."""

_REWRITTEN = frozenset({layout.CONFIG_FILE, layout.CHECKSUMS_FILE, layout.HDF5_FILE})
_BLOCK = 8192
"""Pairs whose steering is computed at a time."""


def convert_dataset(
    source: str | Path,
    target: str | Path,
    storage_format: TargetFormat = "safetensors",
    compression: str | None = "gzip",
    by_pair: bool = False,
) -> Path:
    """Write a dataset directory again in another format.

    "safetensors" gives a directory of ours, with checksums. "pt" and "hdf5" give what the original project reads:
    its keys in config.json only, and the steering vectors of every pair stored (three tensors [n_pairs, D]).

    Args:
        source: The directory to read; all of it is checked.
        target: The directory to make.
        storage_format: Of the target.
        compression: Of HDF5, e.g. "gzip", "lzf" or None.
        by_pair: In HDF5, one small dataset of keywords for each pair, as the original reads it (slow to read).

    Returns:
        The target.

    Raises:
        InputError: The source is not sound, the target exists, or the format is unknown.
    """
    target = Path(target)
    if storage_format not in ("safetensors", "pt", "hdf5"):
        problem = f"storage_format {storage_format!r}; safetensors, pt and hdf5 are known"
        raise InputError(problem, remedy="Give one of them.")
    if target.exists():
        raise InputError("exists already", remedy="Name a directory that does not exist.", path=target)
    opened = open_dataset(source, torch.device("cpu"), use_mmap=False)
    with replacing_directory(target) as fresh:
        if storage_format == "safetensors":
            _write_safetensors(fresh, opened)
        elif storage_format == "pt":
            _write_pt(fresh, opened)
        else:
            write_hdf5(fresh / layout.HDF5_FILE, _with_steering(opened), opened.keywords, compression, by_pair)
        copied = _copy_the_rest(opened.root, fresh)
        write_json(fresh / layout.CONFIG_FILE, _settings(opened, storage_format))
        if storage_format == "safetensors":
            # What the source left outside its checksums, such as scores that are mined anew, stays outside.
            checked = {*layout.TEXT_FILES, *(f"{name}.safetensors" for name in layout.SIDE_TENSORS)}
            write_checksums(fresh, without=copied - named_files(opened.root) - checked)
    return target


def convert_pt_to_hdf5(
    dataset_dir: str | Path,
    compression: str | None = "gzip",
    by_pair: bool = False,
    storage_format: StorageFormat = "auto",
) -> Path:
    """Put `dataset.h5`, with all tensors, into a dataset directory beside its tensor files.

    Args:
        dataset_dir: The directory.
        compression: E.g. "gzip", "lzf" or None.
        by_pair: One small dataset of keywords for each pair, as the original project reads it (slow to read).
        storage_format: Which files to read.

    Returns:
        The file.

    Raises:
        InputError: The directory is not sound, or h5py is missing.
    """
    opened = open_dataset(dataset_dir, torch.device("cpu"), storage_format, use_mmap=False)
    path = opened.root / layout.HDF5_FILE
    write_hdf5(path, _with_steering(opened), opened.keywords, compression, by_pair)
    return path


def write_checksums(directory: Path, without: Set[str] = frozenset()) -> None:
    """Write `checksums.json` over the files of a directory but config.json and the negatives.

    Args:
        directory: All other files are in it already.
        without: Names of files to leave out besides.
    """
    left_out = layout.CHECKSUM_FREE | _REWRITTEN | without
    names = sorted(path.name for path in directory.iterdir() if path.name not in left_out)
    files = {name: file_sha256(directory / name) for name in names}
    checksums = {"format_version": layout.FORMAT_VERSION, "algorithm": "sha256", "files": files}
    write_json(directory / layout.CHECKSUMS_FILE, checksums)


def _copy_the_rest(source: Path, target: Path) -> set[str]:
    """Copy texts and whatever else stands beside the tensors; returns the names."""
    tensors = {*layout.TENSORS, layout.KEYWORD_IDS}
    copied = set()
    for path in source.iterdir():
        of_a_tensor = path.suffix in layout.SUFFIXES and path.stem in tensors
        if path.is_file() and not of_a_tensor and path.name not in _REWRITTEN and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)
            copied.add(path.name)
    return copied


def _write_safetensors(directory: Path, opened: SteeringTensors) -> None:
    for name, tensor in opened.all_tensors().items():
        save_file({name: tensor.contiguous()}, directory / f"{name}.safetensors")
    lists = opened.keywords
    ragged = {layout.KEYWORD_VALUES: lists.values, layout.KEYWORD_OFFSETS: lists.offsets}
    if lists.weights is not None:
        ragged[layout.KEYWORD_WEIGHTS] = lists.weights
    save_file(ragged, directory / f"{layout.KEYWORD_IDS}.safetensors")


def _write_pt(directory: Path, opened: SteeringTensors) -> None:
    for name, tensor in _with_steering(opened).items():
        # A copy: torch.save writes the whole memory behind a view.
        torch.save(tensor.clone(), directory / f"{name}.pt")
    torch.save(opened.keywords.to_lists(), directory / f"{layout.KEYWORD_IDS}.pt")


def _with_steering(opened: SteeringTensors) -> dict[str, Tensor]:
    """All tensors, with the steering of every pair where the directory leaves it to be computed."""
    tensors = opened.all_tensors()
    for number, variant in enumerate(layout.VARIANTS):
        name = layout.STEERING_TENSORS.get(variant)
        if name is not None and name not in tensors:
            tensors[name] = torch.cat([_steering(opened, number, start) for start in range(0, len(opened), _BLOCK)])
    return tensors


def _steering(opened: SteeringTensors, variant: int, start: int) -> Tensor:
    rows = np.arange(start, min(start + _BLOCK, len(opened)))
    questions = opened.tensors["question_embs"][opened.tensors["pair_index"][rows, 0]]
    clusters = opened.tensors["pair_cluster_id"][rows]
    return opened.steering(rows, questions, clusters, np.full(len(rows), variant), torch.empty_like(questions))


def _settings(opened: SteeringTensors, storage_format: TargetFormat) -> dict[str, Any]:
    settings = {
        **opened.settings,
        layout.STORAGE_FORMAT_KEY: storage_format,
        **{key: len(opened.tensors[name]) for key, name in layout.COUNTED_TENSORS.items()},
    }
    if storage_format == "safetensors":
        return {**settings, layout.FORMAT_VERSION_KEY: layout.FORMAT_VERSION}
    return {key: value for key, value in settings.items() if key in _ORIGINAL_KEYS}
