"""From a dataset directory to checked tensors on a device."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_moves import recover
from jasper_rag.data.checksums import verify_files
from jasper_rag.data.dataset_config import read_config
from jasper_rag.data.findings import DatasetWarning, find_faults, negative_faults
from jasper_rag.data.negatives import HardNegatives
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.data.storage.hdf5_file import Hdf5File
from jasper_rag.data.storage.stored import Storage, Stored, StoredKeywords, UnreadableFile
from jasper_rag.data.storage.tensor_files import TensorFiles
from jasper_rag.data.validation import check_dataset, check_tensor
from jasper_rag.errors import InputError

StorageFormat = Literal["auto", "safetensors", "pt", "hdf5"]

_MAPPED_SHARE = 0.5
"""Share of the machine's memory above which a set is mapped, not read."""

_ATTEMPTS, _PAUSE = 40, 0.05
"""How often, and after how many seconds, negatives are read again that are just being exchanged."""

_REMEDY = "Build the dataset again, or name another directory."


def open_dataset(
    directory: str | Path,
    device: torch.device,
    storage_format: StorageFormat = "auto",
    use_mmap: bool | None = None,
    verify: bool | None = None,
) -> SteeringTensors:
    """Read a dataset directory, check all of it, and place it on a device.

    Args:
        directory: Ours or one of the original project.
        device: Where the tensors are to live.
        storage_format: "auto": tensor files if there are any, else `dataset.h5`.
        use_mmap: Leave embeddings on disk; None: if they fill more than half of the memory.
        verify: Compare the files with `checksums.json`, or `.pt` files with their CRCs; None: unless they are mapped.

    Raises:
        InputError: Something is missing or wrong; it names file, row, value and limit.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError("there is no such directory", remedy="Give the directory of a steering dataset.", path=root)
    config, settings = read_config(root / layout.CONFIG_FILE)
    mapped = _is_mapped(root, device) if use_mmap is None else use_mmap
    storage = _storage(root, storage_format, mapped, device)
    stored, keywords = _read_all(storage, root)
    if verify or (verify is None and not mapped):
        used = {keywords.path.name, *(item.path.name for item in stored.values())}
        verify_files(root, used, expected=config.format_version is not None)
    check_dataset(config, stored, keywords)
    tensors = {name: item.tensor for name, item in stored.items()}
    for fault in find_faults(tensors):
        _warn(root, fault)
    tensors.pop(layout.NEGATIVE_SCORES, None)
    clusters = tensors.pop(layout.SOURCE_CLUSTERS, None)
    scores = _scores(root, stored)
    negatives = HardNegatives(tensors.pop("hard_negatives"), tensors.pop("negative_tiers"), device, scores)
    splits: dict[str, Tensor] = {
        split: tensors.pop(f"{split}_idx") for split in layout.SPLITS if f"{split}_idx" in tensors
    }
    names = frozenset(name for name, item in stored.items() if item.mapped)
    return SteeringTensors(
        root=root,
        config=config,
        settings=settings,
        device=device,
        tensors={name: tensor.to(device) for name, tensor in tensors.items()},
        splits=splits,
        keywords=keywords.lists,
        negatives=negatives,
        storage=storage,
        mapped=names,
        source_clusters=None if clusters is None else clusters.to(device),
    )


def reload_negatives(opened: SteeringTensors) -> bool:
    """Read the negatives of a directory again and exchange them; the old ones stay if a file cannot be read.

    Returns:
        Whether they were exchanged; if not, a `DatasetWarning` says why.

    Raises:
        InputError: A file is whole, but what it holds does not fit the dataset; the old ones stay.
    """
    sizes = {
        "n_pairs": len(opened.tensors["pair_index"]),
        "n_sources": len(opened.tensors["source_embs"]),
        layout.N_NEG_KEY: opened.config.n_neg,
    }
    try:
        fresh = _read_negatives(opened.storage, opened.root)
    except UnreadableFile as error:
        _warn(opened.root, f"the old negatives stay: {error.path} {error.problem}")
        return False
    for name, stored in fresh.items():
        check_tensor(stored, layout.SPECS[name], sizes)
    ids, tiers = (fresh[name].tensor for name in layout.NEGATIVE_TENSORS)
    for fault in negative_faults(ids, opened.tensors["pair_index"].cpu(), sizes["n_sources"]):
        _warn(opened.root, fault)
    opened.negatives.exchange(ids, tiers, _scores(opened.root, fresh))
    return True


def _read_negatives(storage: Storage, root: Path) -> dict[str, Stored]:
    """Rows and tiers of one mining, at whatever moment another program is exchanging them; scores if they are of it.

    Raises:
        UnreadableFile: One of them cannot be read, or they stay those of two minings.
    """
    for left in reversed(range(_ATTEMPTS)):
        before = _stamps(root)
        found = {name: _required(storage.read(layout.TENSORS[name]), name, root) for name in layout.NEGATIVE_TENSORS}
        scores = _read_side(layout.NEGATIVE_SCORES, root)
        settled = _stamps(root) == before and _of_one_mining(found)
        # Scores that stay those of another mining are told of later; the rest can be served.
        if settled and (left == 0 or _of_one_mining(found | scores)):
            return found | scores
        recover(root)  # in case the writer was killed between the two
        time.sleep(_PAUSE)
    names = " and ".join(layout.NEGATIVE_TENSORS)
    raise UnreadableFile(f"{names} are of two minings", remedy="Mine them again: jasper mine.", path=root)


def _of_one_mining(found: Mapping[str, Stored]) -> bool:
    """A file that does not say, of another program, goes with any."""
    minings = {stored.mining for stored in found.values()}
    return len(minings) == 1 or None in minings


def _scores(root: Path, stored: Mapping[str, Stored]) -> Tensor | None:
    """Scores of these negatives; None where there are none, or another program has exchanged the negatives since."""
    scores = stored.get(layout.NEGATIVE_SCORES)
    if scores is None or scores.mining is None:
        return None if scores is None else scores.tensor
    mined = [stored[name] for name in layout.MINED_TENSORS]
    if layout.mining_mark(one.tensor.numpy().tobytes() for one in mined) == scores.mining:
        return scores.tensor
    if mined[0].mining is not None:
        fault = f"{layout.NEGATIVE_SCORES} are not those of {' and '.join(layout.NEGATIVE_TENSORS)}, and left out"
        _warn(root, f"{fault}; one of the three files is damaged or of another mining")
    return None


def _stamps(root: Path) -> list[tuple[str, int, int]]:
    """What tells the files that hold negatives from those that take their place."""
    found = []
    for name in (*sorted(layout.CHECKSUM_FREE), layout.HDF5_FILE):
        with suppress(OSError):
            about = (root / name).stat()
            found.append((name, about.st_ino, about.st_mtime_ns))
    return found


def _read_all(storage: Storage, root: Path) -> tuple[dict[str, Stored], StoredKeywords]:
    stored: dict[str, Stored] = {}
    stored |= _read_negatives(storage, root)
    for name, spec in layout.TENSORS.items():
        if name in stored:
            continue
        found = storage.read(spec)
        if found is None and not spec.required:
            continue
        stored[name] = _required(found, name, root)
    stored |= _read_side(layout.SOURCE_CLUSTERS, root)
    keywords = storage.read_keywords()
    if keywords is None:
        raise _missing(layout.KEYWORD_IDS, root)
    return stored, keywords


def _read_side(name: str, root: Path) -> dict[str, Stored]:
    """A tensor that may be missing, by its name."""
    found = TensorFiles(root, suffixes=(".safetensors",)).read(layout.SIDE_TENSORS[name])
    return {} if found is None else {name: found}


def _required(found: Stored | None, name: str, root: Path) -> Stored:
    if found is None:
        raise _missing(name, root)
    return found


def _missing(name: str, root: Path) -> UnreadableFile:
    files = " or ".join(f"{name}{suffix}" for suffix in layout.SUFFIXES)
    return UnreadableFile(f"there is no {files}", remedy=_REMEDY, path=root)


def _storage(root: Path, storage_format: StorageFormat, mapped: bool, device: torch.device) -> Storage:
    if storage_format not in ("auto", "safetensors", "pt", "hdf5"):
        problem = f"storage_format {storage_format!r}; auto, safetensors, pt and hdf5 are known"
        raise InputError(problem, remedy='Leave it out, or give "auto".')
    if mapped and device.type != "cpu":
        problem = f"a mapped set is served from the CPU, not from {str(device)!r}"
        raise InputError(problem, remedy="Leave out use_mmap or the device.")
    one_file = root / layout.HDF5_FILE
    no_files = TensorFiles(root).find("question_embs") is None
    if storage_format != "hdf5" and not (storage_format == "auto" and no_files and one_file.is_file()):
        return TensorFiles(root, mapped, layout.SUFFIXES if storage_format == "auto" else (f".{storage_format}",))
    if not one_file.is_file():
        raise InputError(f"there is no {layout.HDF5_FILE}", remedy=_REMEDY, path=root)
    if mapped:
        remedy = "Leave out use_mmap, or convert it to safetensors (jasper_rag.data.conversion.convert_dataset)."
        raise InputError("HDF5 cannot be mapped into memory", remedy=remedy, path=one_file)
    return Hdf5File(root)


def _is_mapped(root: Path, device: torch.device) -> bool:
    if device.type != "cpu":
        return False
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    files = TensorFiles(root)
    paths = [files.find(name) for name in layout.TENSORS]
    return sum(path.stat().st_size for path in paths if path is not None) > _MAPPED_SHARE * memory


def _warn(root: Path, fault: str) -> None:
    warnings.warn(f"{root}: {fault}", DatasetWarning, stacklevel=2)
