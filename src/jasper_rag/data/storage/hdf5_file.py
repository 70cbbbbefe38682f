"""All tensors in one `dataset.h5`; h5py is the optional extra `hdf5`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_files import replacing
from jasper_rag.data.keyword_lists import KeywordLists
from jasper_rag.data.storage.stored import Stored, StoredKeywords, UnreadableFile
from jasper_rag.data.storage.tensor_files import TensorFiles
from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar

_REMEDY = "Make the file again from the tensor files, or build the dataset again."


@dataclass(frozen=True)
class Hdf5File:
    """The tensors of `dataset.h5`; split and negative files beside it count where they are newer or it has none.

    Args:
        root: The directory.
    """

    root: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / layout.HDF5_FILE

    def read(self, spec: layout.TensorSpec) -> Stored | None:
        """The tensor, or None where there is none.

        Raises:
            InputError: h5py is missing, or the file is not readable.
        """
        beside = TensorFiles(self.root).find(spec.name)
        replaceable = spec.name in layout.NEGATIVE_TENSORS
        if replaceable and beside is not None and beside.stat().st_mtime_ns > self.path.stat().st_mtime_ns:
            return TensorFiles(self.root).read(spec)
        with self._open() as file:
            tensor = _tensor(file, spec.hdf5, self.path)
        return TensorFiles(self.root).read(spec) if tensor is None else Stored(tensor, self.path)

    def read_keywords(self) -> StoredKeywords | None:
        """The keyword lists: flat, or one dataset for each pair.

        Raises:
            InputError: h5py is missing, the file is not readable, or a pair's list is missing.
        """
        with self._open() as file:
            group = file.get(layout.HDF5_KEYWORD_IDS)
            if group is None:
                return None
            if layout.KEYWORD_VALUES in group:
                names = (layout.KEYWORD_VALUES, layout.KEYWORD_OFFSETS, layout.KEYWORD_WEIGHTS)
                values, offsets, weights = (_tensor(group, name, self.path) for name in names)
                if values is None or offsets is None:
                    problem = f"{layout.HDF5_KEYWORD_IDS} has no {layout.KEYWORD_OFFSETS!r}"
                    raise InputError(problem, remedy=_REMEDY, path=self.path)
                return StoredKeywords(KeywordLists(values, offsets, weights), self.path)
            return StoredKeywords(_lists_by_pair(group, self.path), self.path)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        h5py = require_h5py()
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (OSError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise UnreadableFile(f"not a readable HDF5 file: {error}", remedy=_REMEDY, path=self.path) from error


def write_hdf5(
    path: Path, tensors: Mapping[str, Tensor], keywords: KeywordLists, compression: str | None, by_pair: bool
) -> None:
    """Write `dataset.h5`, atomically.

    Args:
        path: The file.
        tensors: By name of `dataset_layout.TENSORS`.
        keywords: Keyword lists.
        compression: h5py's name of a filter, e.g. "gzip"; None for none.
        by_pair: Keep the keyword lists as the original does, one small dataset for each pair (slow to read).

    Raises:
        InputError: h5py is missing, or the compression is unknown.
    """
    h5py = require_h5py()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        try:
            for name, tensor in tensors.items():
                array = tensor.cpu().numpy()
                # An empty dataset cannot be cut into compressed chunks.
                file.create_dataset(
                    layout.TENSORS[name].hdf5, data=array, compression=compression if array.size else None
                )
        except ValueError as error:
            raise InputError(f"cannot be written: {error}", remedy='Try compression="gzip".', path=path) from error
        group = file.create_group(layout.HDF5_KEYWORD_IDS)
        if by_pair:
            lists = keywords.to_lists()
            with progress_bar(len(lists), "writing keyword lists", "pair") as bar:
                for pair, entries in enumerate(lists):
                    group.create_dataset(str(pair), data=np.asarray(entries, dtype=np.int32))
                    bar.update()
            return
        group.create_dataset(layout.KEYWORD_VALUES, data=keywords.values.numpy())
        group.create_dataset(layout.KEYWORD_OFFSETS, data=keywords.offsets.numpy())
        if keywords.weights is not None:
            group.create_dataset(layout.KEYWORD_WEIGHTS, data=keywords.weights.numpy())


def require_h5py() -> Any:
    """The module h5py.

    Raises:
        InputError: It is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        remedy = "Install it: pip install 'jasper-rag[hdf5]'. Datasets in .safetensors or .pt files need nothing more."
        raise InputError("HDF5 datasets need h5py, which is not installed", remedy=remedy) from error
    return h5py


def _tensor(group: Any, name: str, path: Path) -> Tensor | None:
    found = group.get(name)
    if found is None:
        return None
    if not hasattr(found, "dtype") or found.dtype.kind not in "fiub":
        raise InputError(f"{name} is no array of numbers", remedy=_REMEDY, path=path)
    array = np.asarray(found[()])
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _lists_by_pair(group: Any, path: Path) -> KeywordLists:
    lists = []
    with progress_bar(len(group), "reading keyword lists", "pair") as bar:
        for pair in range(len(group)):
            entries = _tensor(group, str(pair), path)
            if entries is None or entries.is_floating_point() or entries.ndim != 1:
                problem = f"{layout.HDF5_KEYWORD_IDS}/{pair}: a list of whole numbers is expected for every pair"
                raise InputError(problem, remedy=_REMEDY, path=path)
            lists.append(entries.to(torch.int64))
            bar.update()
    lengths = torch.tensor([0, *map(len, lists)])
    return KeywordLists(torch.cat([torch.zeros(0, dtype=torch.int64), *lists]), lengths.cumsum(0))
