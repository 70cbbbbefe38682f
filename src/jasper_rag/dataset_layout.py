"""The steering dataset's directory: file names, tensor names, dtypes, shapes, versions.

`build/` writes such a directory and `data/` reads it; this file is all they share. The tensor names are those of the
original project, whose directories (`.pt` files or one `dataset.h5`) have the same tensors.

    config.json                        what the tensors are, how they were made (see the `*_KEY` constants)
    <tensor>.safetensors               one file per tensor of `TENSORS`; the tensor in it has the file's name
    pair_keyword_ids.safetensors       a ragged list as `KEYWORD_VALUES`, `KEYWORD_OFFSETS` and, if weighted,
                                       `KEYWORD_WEIGHTS`: the keywords of pair p are values[offsets[p] : offsets[p + 1]]
    documents.jsonl, questions.jsonl   one record per row of `source_embs` and `question_embs`, in that order
    keywords.json, clusters.json       lists in the order of the rows of `keyword_embs` and `centroid_embs`
    checksums.json                     SHA-256 of files; `CHECKSUM_FREE` files and config.json stand outside
    <tensor>.safetensors               of `SIDE_TENSORS`: what the builder knows besides; may be missing

A pair is a question with one of its sources. Row p of every `n_pairs` tensor belongs to pair p; `train_idx`, `val_idx`
and `test_idx` hold rows of pairs. Steering is computed when a batch is read:

    centroid   (c - q) / |c - q|                                  q: question, c: centroid of the pair's cluster
    keyword    v / |v|, v = sum_k w_k e_k over the pair's keywords (w_k = 1 without weights);
               without keywords, what `FALLBACK_KEY` says
    residual   q - c; of length 1 if `NORMALIZE_RESIDUAL_KEY`

with zeros where a length to divide by is at most 1e-8; unless the optional tensors `steering_centroid`,
`steering_keyword_weighted`, `steering_residual` are there: then theirs is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FORMAT_VERSION = 1
"""Of directories as described here; a directory of the original project has none."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

VARIANTS: tuple[str, ...] = ("zero", "centroid", "keyword", "residual")
"""Steering variants; the position is the number in a batch's `steering_variant`."""

TIERS = (1, 4)
"""Least and greatest negative tier: 1 same cluster, 2 next clusters, 3 similar elsewhere, 4 random elsewhere."""

CONFIG_FILE = "config.json"
CHECKSUMS_FILE = "checksums.json"
HDF5_FILE = "dataset.h5"
INSPECTION_FILE = "inspection.json"

DOCUMENTS_FILE = "documents.jsonl"
"""Lines `{"_id", "title", "text", "topic"}`; `title` and `topic` may be missing. Line i is row i of `source_embs`."""

QUESTIONS_FILE = "questions.jsonl"
"""Lines `{"_id", "text"}`; line i is row i of `question_embs`."""

KEYWORDS_FILE = "keywords.json"
"""List of strings; entry i is row i of `keyword_embs`."""

CLUSTERS_FILE = "clusters.json"
"""List of objects with at least `name` (a string); entry i is row i of `centroid_embs`."""

TEXT_FILES = (DOCUMENTS_FILE, QUESTIONS_FILE, KEYWORDS_FILE, CLUSTERS_FILE)

# Keys of config.json; the first block is the original project's.
EMBEDDING_DIM_KEY = "embedding_dim"
N_NEG_KEY = "n_neg"
COUNTED_TENSORS: Mapping[str, str] = {
    "n_pairs": "pair_index",
    "n_questions": "question_embs",
    "n_sources": "source_embs",
    "n_keywords": "keyword_embs",
    "n_clusters": "centroid_embs",
}
"""Key of a count -> the tensor whose rows it counts."""

COUNT_KEYS = tuple(COUNTED_TENSORS)
CLUSTERING_SOURCE_KEY = "clustering_source"
SPLIT_RATIOS_KEY = "split_ratios"
STEERING_PROBABILITIES_KEY = "steering_probabilities"
CURRICULUM_KEY = "curriculum"
STORAGE_FORMAT_KEY = "storage_format"
RANDOM_SEED_KEY = "random_seed"
CSV_SPLITS_KEY = "csv_splits"
INCLUDE_INSPECTION_KEY = "include_inspection_file"

FORMAT_VERSION_KEY = "format_version"
ENCODER_KEY = "encoder"
"""Object that says which encoder made the embeddings; free-form."""
FALLBACK_KEY = "steering_fallback_strategy"
"""Keyword steering of a pair without keywords: "centroid" (default) or "zero"."""
NORMALIZE_RESIDUAL_KEY = "steering_normalize_residual"
"""Whether residual steering has length 1; default false."""

DEFAULT_STEERING_PROBABILITIES: Mapping[str, float] = {
    "zero": 0.25,
    "centroid": 0.25,
    "keyword": 0.25,
    "residual": 0.25,
}
DEFAULT_SEED = 42

KEYWORD_IDS = "pair_keyword_ids"
KEYWORD_VALUES = "values"
"""int64 [n_links]: rows of `keyword_embs`, pair after pair."""
KEYWORD_OFFSETS = "offsets"
"""int64 [n_pairs + 1]: begins with 0, never falls, ends with n_links."""
KEYWORD_WEIGHTS = "weights"
"""Optional, float32 [n_links], finite, >= 0."""


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like."""

    name: str
    """Of the file without its suffix, and of the tensor in it."""
    dtype: Literal["float32", "int64"]
    shape: tuple[str | int, ...]
    """Sizes: a number, or the key of config.json that holds it; split tensors have "n_train" and so on."""
    hdf5: str
    """Path of the same tensor in `dataset.h5`."""
    required: bool = True
    low: float | None = None
    """Least value allowed."""
    high: float | str | None = None
    """Greatest value allowed; a count's key means one less than that count."""


def _embeddings(name: str, rows: str, hdf5: str, required: bool = True) -> TensorSpec:
    return TensorSpec(name, "float32", (rows, EMBEDDING_DIM_KEY), hdf5, required)


_SPECS = (
    _embeddings("question_embs", "n_questions", "embeddings/questions"),
    _embeddings("source_embs", "n_sources", "embeddings/sources"),
    _embeddings("keyword_embs", "n_keywords", "embeddings/keywords"),
    _embeddings("centroid_embs", "n_clusters", "embeddings/centroids"),
    # Columns: question row, source row; each has a limit of its own.
    TensorSpec("pair_index", "int64", ("n_pairs", 2), "pair_data/index", low=0),
    TensorSpec("pair_cluster_id", "int64", ("n_pairs",), "pair_data/cluster_id", low=0, high="n_clusters"),
    TensorSpec("pair_relevance", "float32", ("n_pairs",), "pair_data/relevance", low=0.0, high=1.0),
    TensorSpec("centroid_distances", "float32", ("n_pairs",), "steering/distances", low=0.0, high=2.0),
    TensorSpec("hard_negatives", "int64", ("n_pairs", N_NEG_KEY), "negatives/hardnegatives", low=0, high="n_sources"),
    TensorSpec("negative_tiers", "int64", ("n_pairs", N_NEG_KEY), "negatives/tiers", low=TIERS[0], high=TIERS[1]),
    TensorSpec("train_idx", "int64", ("n_train",), "splits/train", low=0, high="n_pairs"),
    TensorSpec("val_idx", "int64", ("n_val",), "splits/val", low=0, high="n_pairs"),
    TensorSpec("test_idx", "int64", ("n_test",), "splits/test", required=False, low=0, high="n_pairs"),
    _embeddings("steering_centroid", "n_pairs", "steering/centroid", required=False),
    _embeddings("steering_keyword_weighted", "n_pairs", "steering/keyword_weighted", required=False),
    _embeddings("steering_residual", "n_pairs", "steering/residual", required=False),
)
TENSORS: Mapping[str, TensorSpec] = {spec.name: spec for spec in _SPECS}
"""Every tensor but the ragged `pair_keyword_ids`, by name."""

HDF5_KEYWORD_IDS = "pair_data/keyword_ids"
"""Group in `dataset.h5`: `values`, `offsets` (and `weights`); the original has one dataset "0", "1", ... per pair."""

STEERING_TENSORS: Mapping[str, str] = {
    "centroid": "steering_centroid",
    "keyword": "steering_keyword_weighted",
    "residual": "steering_residual",
}
"""Variant -> its optional stored tensor."""

NEGATIVE_TENSORS = ("hard_negatives", "negative_tiers")
"""Another program may overwrite these while training runs: read by copy, outside the checksums."""

MINING = "mining"
"""Metadata of their `.safetensors` files: equal in those that were mined together."""

NEGATIVE_SCORES = "negative_scores"
"""Cosine of each negative with the question as it stood when it was mined."""
SOURCE_CLUSTERS = "source_cluster_id"
"""Cluster of each source, those without a pair included."""
SIDE_TENSORS: Mapping[str, TensorSpec] = {
    NEGATIVE_SCORES: TensorSpec(NEGATIVE_SCORES, "float32", ("n_pairs", N_NEG_KEY), "", False, -1.0, 1.0),
    SOURCE_CLUSTERS: TensorSpec(SOURCE_CLUSTERS, "int64", ("n_sources",), "", False, 0, "n_clusters"),
}
"""Optional, by name; always `.safetensors` of their own, whatever the format of the rest. No batch holds them."""

SPECS: Mapping[str, TensorSpec] = {**TENSORS, **SIDE_TENSORS}

MINED_TENSORS = (*NEGATIVE_TENSORS, NEGATIVE_SCORES)
"""Mined together, and exchanged together."""

CHECKSUM_FREE = frozenset(f"{name}{suffix}" for name in MINED_TENSORS for suffix in (".safetensors", ".pt"))
"""Files that `checksums.json` must not name."""

SUFFIXES = (".safetensors", ".pt")
"""Of tensor files, the preferred one first; of the negatives the newer file counts."""


def mining_mark(mined: Iterable[bytes | memoryview]) -> str:
    """`MINING` of the files of one mining: SHA-256 of rows, tiers and scores, in hexadecimal digits.

    Args:
        mined: The bytes of `MINED_TENSORS`, in that order.
    """
    digest = hashlib.sha256()
    for content in mined:
        digest.update(content)
    return digest.hexdigest()


@dataclass(frozen=True)
class DatasetLayout:
    """Paths in one dataset directory."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings and counts."""
        return self.root / CONFIG_FILE

    @property
    def checksums(self) -> Path:
        """`{"format_version": 1, "algorithm": "sha256", "files": {name: 64 hexadecimal digits}}`."""
        return self.root / CHECKSUMS_FILE

    @property
    def hdf5(self) -> Path:
        """All tensors in one file, as an alternative to one file each."""
        return self.root / HDF5_FILE

    def tensor(self, name: str, suffix: str = SUFFIXES[0]) -> Path:
        """File of one tensor, `KEYWORD_IDS` included."""
        return self.root / f"{name}{suffix}"
