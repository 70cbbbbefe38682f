"""What is read of a dataset directory, with the file it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from jasper_rag.data.keyword_lists import KeywordLists
from jasper_rag.dataset_layout import TensorSpec
from jasper_rag.errors import InputError


class UnreadableFile(InputError):
    """A file that is no whole tensor file: cut, damaged, being written, or holding what is not plain data."""


@dataclass(frozen=True)
class Stored:
    """A tensor and its origin."""

    tensor: Tensor
    path: Path
    mapped: bool = False
    """Whether its rows are paged in from the file as they are taken."""
    mining: str | None = None
    """Of negatives: what the files of one mining share; None where the file does not say."""


@dataclass(frozen=True)
class StoredKeywords:
    """Keyword lists and their origin."""

    lists: KeywordLists
    path: Path


class Storage(Protocol):
    """One way of keeping the tensors of a directory."""

    def read(self, spec: TensorSpec) -> Stored | None:
        """The tensor as stored, unchecked; None where there is none."""
        ...

    def read_keywords(self) -> StoredKeywords | None:
        """The keyword lists as stored, unchecked; None where there are none."""
        ...
