"""What a dataset directory holds, in figures and examples: ours, or one of the original project."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_moves import recover
from jasper_rag.build.dataset_files import REPORT_FILE
from jasper_rag.data.dataset_config import read_json
from jasper_rag.data.dataset_directory import open_dataset
from jasper_rag.data.dataset_texts import DatasetTexts, read_texts
from jasper_rag.data.steering_tensors import SteeringTensors

TIER_NAMES: Mapping[int, str] = {1: "in-cluster", 2: "adjacent", 3: "similar", 4: "random"}


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """One cluster: its name ("cluster 7" where none is kept), telling terms, sources, and pairs of these sources."""

    name: str
    terms: tuple[str, ...]
    sources: int
    pairs: int


@dataclass(frozen=True, slots=True)
class SplitFigures:
    """One split, and what of it stands in train too.

    Args:
        name: "train", "val" or "test".
        pairs: Pairs.
        questions: Questions of these pairs.
        sources: Sources of these pairs; those of equal text are one, where texts are kept.
        shared_sources: Of these, those that answer train questions; None for train.
        near_duplicates: Of the questions, those with a cosine of at least .95 to a train question; None for train,
            and where there are too many to compare.
    """

    name: str
    pairs: int
    questions: int
    sources: int
    shared_sources: int | None = None
    near_duplicates: int | None = None


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One tier: its share of all negatives, and the mean cosine with the question (None without any)."""

    tier: int
    name: str
    share: float
    cosine: float | None


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """One steering variant: its probability in epoch 0, and when the curriculum is at its end."""

    name: str
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class SampleNegative:
    """A negative of a sample: title or row, beginning of the text, tier, cosine with the question."""

    title: str
    text: str
    tier: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair as training sees it."""

    split: str
    question: str
    source_title: str
    source_text: str
    cosine: float
    relevance: float
    cluster: str
    keywords: tuple[str, ...]
    negatives: tuple[SampleNegative, ...]


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """Everything worth knowing of a dataset directory.

    Args:
        name: Of the set, or of the directory.
        path: The directory.
        storage_format: Of its tensors.
        format_version: None: a directory of the original project, or in its formats.
        encoder: Who made the vectors; "" where it is not kept.
        has_texts: Whether rows lead back to texts.
        counts: "pairs", "questions", "sources", "keywords", "clusters", "dimension", "n_neg" -> number.
        clustering: Where the clusters come from; "" where it is not kept.
        pairs_without_keywords: Pairs whose keyword steering falls back.
        megabytes: Of all files, in units of 10^6 bytes.
        splits: Those there are.
        clusters: All, in their order.
        tiers: All four.
        positive_cosine: Mean cosine of a question with its own source, over the same pairs as the tiers'.
        variants: All four.
        last_epoch: Epoch from which the curriculum stays as it is.
        faults: What the loader warns of.
        samples: Pairs with their negatives.
    """

    name: str
    path: str
    storage_format: str
    format_version: int | None
    encoder: str
    has_texts: bool
    counts: Mapping[str, int]
    clustering: str
    pairs_without_keywords: int
    megabytes: float
    splits: tuple[SplitFigures, ...]
    clusters: tuple[ClusterFigures, ...]
    tiers: tuple[TierFigures, ...]
    positive_cosine: float
    variants: tuple[VariantFigures, ...]
    last_epoch: int
    faults: tuple[str, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class OpenedDataset:
    """A directory as read: tensors, texts where there are any, and what the loader said.

    Args:
        tensors: On the CPU.
        texts: None where none are kept.
        report: Content of build_report.json; empty without one.
        faults: Warnings of the loader, without the path.
    """

    tensors: SteeringTensors
    texts: DatasetTexts | None
    report: Mapping[str, Any]
    faults: tuple[str, ...]

    def array(self, name: str) -> NDArray[Any]:
        """One tensor by its name in the layout."""
        found: NDArray[Any] = self.tensors.all_tensors()[name].numpy()
        return found

    def cluster_name(self, cluster: int) -> str:
        """Its name, or its number."""
        return f"cluster {cluster}" if self.texts is None else self.texts.clusters[cluster]


def open_for_inspection(directory: str | Path) -> OpenedDataset:
    """Read and check all of a directory.

    Raises:
        InputError: Something in it is missing or wrong.
    """
    root = Path(directory)
    recover(root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tensors = open_dataset(root, torch.device("cpu"))
    texts = read_texts(root) if any((root / name).is_file() for name in layout.TEXT_FILES) else None
    report = read_json(root / REPORT_FILE) if (root / REPORT_FILE).is_file() else {}
    faults = tuple(str(warning.message).removeprefix(f"{root}: ") for warning in caught)
    return OpenedDataset(tensors, texts, report if isinstance(report, dict) else {}, faults)
