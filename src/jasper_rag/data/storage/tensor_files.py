"""One tensor per file: `.safetensors`, or `.pt` read without running anything it holds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import pickle as _torch_reader  # type: ignore[attr-defined]

from jasper_rag import dataset_layout as layout
from jasper_rag.data.keyword_lists import KeywordLists, keyword_lists
from jasper_rag.data.storage.archives import verify_archive
from jasper_rag.data.storage.integer_lists import read_integer_lists
from jasper_rag.data.storage.stored import Stored, StoredKeywords, UnreadableFile
from jasper_rag.errors import InputError

_REMEDY = "Build the dataset again, or copy the file again."


@dataclass(frozen=True)
class TensorFiles:
    """The tensor files of one directory.

    Args:
        root: The directory.
        mapped: Whether embeddings stay on disk and are paged in as rows are taken; everything else is read.
        suffixes: Kinds of files looked for, the preferred one first; negatives are looked for in all kinds.
    """

    root: Path
    mapped: bool = False
    suffixes: tuple[str, ...] = layout.SUFFIXES

    def read(self, spec: layout.TensorSpec) -> Stored | None:
        """The tensor, or None where there is no file of it.

        Raises:
            UnreadableFile: The file is not readable.
        """
        path = self.find(spec.name)
        if path is None:
            return None
        mapped = self.mapped and spec.dtype == "float32" and len(spec.shape) > 1
        if spec.name in layout.MINED_TENSORS:
            # A snapshot of the bytes: its writer may cut the file at any moment, and a map would then end in SIGBUS.
            value, mining = _read_bytes(path)
            return Stored(_only_tensor(value, spec.name, path), path, mining=mining)
        return Stored(_only_tensor(_read_file(path, mapped), spec.name, path), path, mapped)

    def read_keywords(self) -> StoredKeywords | None:
        """The keyword lists, or None where there is no file of them.

        Raises:
            UnreadableFile: The file is not readable.
            InputError: It holds something else.
        """
        path = self.find(layout.KEYWORD_IDS)
        if path is None:
            return None
        value = read_integer_lists(path) if path.suffix == ".pt" else None
        if value is None:
            value = _read_file(path, mapped=False)
        if isinstance(value, Mapping):
            names = {layout.KEYWORD_VALUES, layout.KEYWORD_OFFSETS}
            if not names <= set(value):
                raise InputError(f"holds {sorted(value)}, not {sorted(names)}", remedy=_REMEDY, path=path)
            weights = value.get(layout.KEYWORD_WEIGHTS)
            lists = KeywordLists(value[layout.KEYWORD_VALUES], value[layout.KEYWORD_OFFSETS], weights)
            return StoredKeywords(lists, path)
        if not isinstance(value, list | tuple):
            problem = f"holds {type(value).__name__}; a list of lists of keyword rows is expected"
            raise InputError(problem, remedy=_REMEDY, path=path)
        try:
            return StoredKeywords(keyword_lists(value), path)
        except ValueError as error:
            raise InputError(str(error), remedy=_REMEDY, path=path) from error

    def find(self, name: str) -> Path | None:
        """The file of a tensor. Of the negatives the newer one counts, of the rest the preferred suffix."""
        replaceable = name in layout.NEGATIVE_TENSORS
        suffixes = layout.SUFFIXES if replaceable else self.suffixes
        found = [path for suffix in suffixes if (path := self.root / f"{name}{suffix}").is_file()]
        if replaceable:
            found.sort(key=lambda path: -path.stat().st_mtime_ns)
        return found[0] if found else None


def _only_tensor(value: Any, name: str, path: Path) -> Tensor:
    if isinstance(value, Mapping):
        if set(value) != {name}:
            raise InputError(f"holds the tensors {sorted(value)}, not {name!r} alone", remedy=_REMEDY, path=path)
        value = value[name]
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise InputError(f"holds {type(value).__name__}; a dense tensor is expected", remedy=_REMEDY, path=path)
    return value.detach().resolve_neg()


def _read_file(path: Path, mapped: bool) -> Any:
    with _refusing(path):
        if path.suffix == ".pt":
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors if mapped else {name: _copied(tensor) for name, tensor in tensors.items()}


def _copied(tensor: Tensor) -> Tensor:
    """A copy of a contiguous tensor, made by one thread: torch's own would wait for others on a busy machine."""
    if not tensor.numel():
        return tensor.clone()
    content = np.array(tensor.reshape(-1).view(torch.uint8).numpy())
    return torch.from_numpy(content).view(tensor.dtype).view(tensor.shape)


def _read_bytes(path: Path) -> tuple[Any, str | None]:
    """What a file holds, and the mining that its metadata name."""
    with _refusing(path):
        content = path.read_bytes()
        if path.suffix == ".pt":
            verify_archive(path, content)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), None
        tensors = safetensors.torch.load(content)
        # The header is JSON after its length in eight bytes; the reader above has checked both.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, header.get("__metadata__", {}).get(layout.MINING)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what the two readers raise at a damaged or crafted file into one error that names it."""
    try:
        yield
    except UnreadableFile:
        raise
    except _torch_reader.UnpicklingError as error:
        remedy = "A dataset holds tensors and plain values only; never read such a file by other means."
        raise UnreadableFile(f"refused: {_first_line(error)}", remedy=remedy, path=path) from error
    except (
        SafetensorError,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise UnreadableFile(f"cannot be read: {_first_line(error)}", remedy=_REMEDY, path=path) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
