"""A built dataset on disk: tensors, texts, settings and checksums; all of it or none.

Beside the files of `dataset_layout` stand two of our own:

    question_keyword_ids.safetensors   keywords of each question from its own text, laid out as `pair_keyword_ids`
    build_report.json                  encoder, settings, leaks between splits, what mining had to move
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from jasper_rag import dataset_layout as layout
from jasper_rag.atomic_files import replacing_directory, write_json, write_text
from jasper_rag.build.dataset_builder import BuiltDataset
from jasper_rag.build.pair_keywords import KeywordLinks
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.errors import InputError

QUESTION_KEYWORD_IDS = "question_keyword_ids"
REPORT_FILE = "build_report.json"

MINING = layout.MINING

EXTRA_FILES = (
    *(f"{name}.safetensors" for name in (QUESTION_KEYWORD_IDS, *layout.SIDE_TENSORS)),
    REPORT_FILE,
)
"""Our own files beside those of the layout, in every storage format."""

_UNCHECKED = layout.CHECKSUM_FREE | {layout.CONFIG_FILE}
"""What is mined anew while training runs, and the settings, which a person may edit."""


def write_dataset(built: BuiltDataset, directory: str | Path) -> Path:
    """Write a dataset directory; an older dataset there stays whole until the new one is complete.

    Args:
        built: What to write.
        directory: Created, or replaced if it is a dataset.

    Returns:
        The directory.

    Raises:
        InputError: `directory` holds something else, which would be lost.
    """
    target = Path(directory)
    require_replaceable(target)
    with replacing_directory(target) as folder:
        mined = {MINING: built.negatives.mark()}
        for name, tensor in _tensors(built).items():
            metadata = mined if name in layout.MINED_TENSORS else None
            save_file({name: np.ascontiguousarray(tensor)}, folder / f"{name}.safetensors", metadata)
        _write_links(folder, layout.KEYWORD_IDS, built.keywords.of_pairs)
        _write_links(folder, QUESTION_KEYWORD_IDS, built.keywords.of_questions)
        _write_texts(folder, built)
        write_json(folder / REPORT_FILE, _report(built))
        write_json(folder / layout.CONFIG_FILE, _config(built))
        files = sorted(path for path in folder.iterdir() if path.name not in _UNCHECKED)
        digests = {path.name: file_sha256(path) for path in files}
        checksums = {"format_version": layout.FORMAT_VERSION, "algorithm": "sha256", "files": digests}
        write_json(folder / layout.CHECKSUMS_FILE, checksums)
    return target


def require_replaceable(directory: Path) -> None:
    """Refuse a place where writing a dataset would remove something else.

    Raises:
        InputError: It is a file, or a folder that is neither empty nor a dataset.
    """
    if directory.is_dir() and (_is_dataset(directory) or not any(directory.iterdir())):
        return
    if directory.exists() or directory.is_symlink():
        remedy = "A dataset replaces its whole folder: give a new or empty one."
        raise InputError("something else than a dataset is here.", path=directory, remedy=remedy)


def _is_dataset(directory: Path) -> bool:
    """Whether config.json says so; many a program calls its settings by this name."""
    try:
        config = json.loads((directory / layout.CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {layout.EMBEDDING_DIM_KEY, layout.N_NEG_KEY} <= config.keys()


def _tensors(built: BuiltDataset) -> dict[str, NDArray[Any]]:
    table = built.table
    return {
        "question_embs": built.question_vectors,
        "source_embs": built.source_vectors,
        "keyword_embs": built.keyword_vectors,
        "centroid_embs": built.clusters.clusters.centroids,
        "pair_index": table.pairs,
        "pair_cluster_id": built.pair_clusters,
        "pair_relevance": table.relevance,
        "centroid_distances": built.centroid_distances(),
        "hard_negatives": built.negatives.rows,
        "negative_tiers": built.negatives.tiers,
        layout.NEGATIVE_SCORES: built.negatives.scores,
        layout.SOURCE_CLUSTERS: built.clusters.clusters.assignment,
        **{f"{split}_idx": rows for split, rows in table.splits.items()},
    }


def _write_links(folder: Path, name: str, links: KeywordLinks) -> None:
    arrays: dict[str, NDArray[Any]] = {
        layout.KEYWORD_VALUES: links.values,
        layout.KEYWORD_OFFSETS: links.offsets,
        layout.KEYWORD_WEIGHTS: links.weights,
    }
    save_file(arrays, folder / f"{name}.safetensors")


def _write_texts(folder: Path, built: BuiltDataset) -> None:
    documents = (
        {"_id": d.id, "title": d.title, "text": d.text} | ({"topic": d.topic} if d.topic else {})
        for d in built.table.documents
    )
    write_text(folder / layout.DOCUMENTS_FILE, _lines(documents))
    write_text(folder / layout.QUESTIONS_FILE, _lines({"_id": q.id, "text": q.text} for q in built.table.questions))
    write_json(folder / layout.KEYWORDS_FILE, list(built.keywords.vocabulary.keywords))
    write_json(folder / layout.CLUSTERS_FILE, built.clusters.records())


def _lines(records: Iterable[Mapping[str, str]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _config(built: BuiltDataset) -> dict[str, Any]:
    config = built.config
    return {
        layout.FORMAT_VERSION_KEY: layout.FORMAT_VERSION,
        "name": built.table.name,
        layout.EMBEDDING_DIM_KEY: int(built.source_vectors.shape[1]),
        layout.N_NEG_KEY: config.negatives.n_neg,
        "n_pairs": len(built.table.pairs),
        "n_questions": len(built.table.questions),
        "n_sources": len(built.table.documents),
        "n_keywords": len(built.keywords.vocabulary),
        "n_clusters": len(built.clusters.names),
        layout.CLUSTERING_SOURCE_KEY: built.clusters.source,
        layout.SPLIT_RATIOS_KEY: list(config.split_ratios),
        layout.CSV_SPLITS_KEY: config.csv_splits,
        layout.STEERING_PROBABILITIES_KEY: config.steering_probabilities,
        layout.CURRICULUM_KEY: config.curriculum.model_dump(exclude_none=True),
        layout.STORAGE_FORMAT_KEY: "safetensors",
        layout.RANDOM_SEED_KEY: config.random_seed,
        layout.ENCODER_KEY: built.identity.to_json(),
        "build": config.model_dump(mode="json"),
    }


def _report(built: BuiltDataset) -> dict[str, Any]:
    """What the original project's config.json has no place for, so that it is kept in its formats, too."""
    return {
        "name": built.table.name,
        layout.ENCODER_KEY: built.identity.to_json(),
        "build": built.config.model_dump(mode="json"),
        "leaks": built.leaks,
        "negatives_moved_between_tiers": built.negatives.moved,
        "negatives_inside_margin": built.negatives.inside_margin,
        "pairs_without_keywords": int((np.diff(built.keywords.of_pairs.offsets) == 0).sum()),
    }
