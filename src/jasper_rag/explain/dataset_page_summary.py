"""The figures of an opened dataset: shares, sizes, leaks, and three pairs to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag import dataset_layout as layout
from jasper_rag.build.split_leaks import split_leaks
from jasper_rag.data.dataset_config import read_json
from jasper_rag.embedding.embedded_set import text_groups
from jasper_rag.explain.dataset_page_data import (
    TIER_NAMES,
    ClusterFigures,
    DatasetSummary,
    OpenedDataset,
    Sample,
    SampleNegative,
    SplitFigures,
    TierFigures,
    VariantFigures,
)
from jasper_rag.explain.source_topics import source_topics
from jasper_rag.models.guard import unit

IntArray = NDArray[np.int64]

SAMPLES = 3
_MEASURED_PAIRS = 5_000
"""Pairs over which cosines are averaged, evenly spaced."""
_BLOCK = 1024
_NEAR = 0.95
_MOST_COSINES = 2_000_000_000
"""Question pairs up to which near-duplicates are looked for, where the build has not counted them."""


def summarise(opened: OpenedDataset) -> DatasetSummary:
    """Figures and samples of an opened dataset."""
    tensors, config = opened.tensors, opened.tensors.config
    tiers, positive = _tiers(opened)
    schedule = config.schedule()
    ends = schedule.mode in ("linear", "cosine")
    last = math.ceil(schedule.epochs_total) if ends else 0
    shares = zip(layout.VARIANTS, schedule.probabilities(0), schedule.probabilities(last), strict=True)
    settings = {**opened.report, **tensors.settings}
    encoder = settings.get(layout.ENCODER_KEY)
    files = [path for path in tensors.root.iterdir() if path.is_file()]
    return DatasetSummary(
        name=str(settings.get("name") or tensors.root.resolve().name),
        path=str(tensors.root),
        storage_format=str(settings.get(layout.STORAGE_FORMAT_KEY) or "pt"),
        format_version=config.format_version,
        encoder=str(encoder.get("name", "")) if isinstance(encoder, dict) else "",
        has_texts=opened.texts is not None,
        counts=_counts(opened),
        clustering=config.clustering_source or "",
        pairs_without_keywords=int((tensors.keywords.offsets.diff() == 0).sum()),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
        splits=_splits(opened),
        clusters=_clusters(opened),
        tiers=tiers,
        positive_cosine=positive,
        variants=tuple(VariantFigures(*row) for row in shares),
        last_epoch=last,
        faults=opened.faults,
        samples=_samples(opened),
    )


def _counts(opened: OpenedDataset) -> dict[str, int]:
    held = opened.tensors.tensors
    counts = {key.removeprefix("n_"): len(held[name]) for key, name in layout.COUNTED_TENSORS.items()}
    return counts | {"dimension": opened.tensors.config.embedding_dim, "n_neg": opened.tensors.config.n_neg}


def _clusters(opened: OpenedDataset) -> tuple[ClusterFigures, ...]:
    count = len(opened.array("centroid_embs"))
    sources = np.bincount(source_topics(opened.tensors), minlength=count)
    pairs = np.bincount(opened.array("pair_cluster_id"), minlength=count)
    path = opened.tensors.root / layout.CLUSTERS_FILE
    kept = read_json(path) if opened.texts is not None else []
    listed = [entry.get("terms") for entry in kept] if kept else [None] * count
    terms = [entry if isinstance(entry, list) else [] for entry in listed]
    return tuple(
        ClusterFigures(opened.cluster_name(row), tuple(map(str, terms[row])), int(sources[row]), int(pairs[row]))
        for row in range(count)
    )


def _splits(opened: OpenedDataset) -> tuple[SplitFigures, ...]:
    pairs, splits = opened.array("pair_index"), {name: rows.numpy() for name, rows in opened.tensors.splits.items()}
    group = np.arange(len(opened.array("source_embs")))
    if opened.texts is not None:
        group = text_groups(opened.texts.documents)
    leaks = opened.report.get("leaks")
    if not isinstance(leaks, dict):
        leaks = _counted_leaks(opened, pairs, splits, group)
    found = []
    for name, rows in splits.items():
        leak = leaks.get(name, {})
        questions, sources = np.unique(pairs[rows, 0]), np.unique(group[pairs[rows, 1]])
        shared, near = leak.get("shared_sources"), leak.get("near_duplicate_questions")
        found.append(SplitFigures(name, len(rows), len(questions), len(sources), shared, near))
    return tuple(found)


def _counted_leaks(
    opened: OpenedDataset, pairs: IntArray, splits: Mapping[str, IntArray], group: IntArray
) -> dict[str, Any]:
    if "train" not in splits:
        return {}
    questions = unit(opened.array("question_embs"))
    if len(splits["train"]) * (len(pairs) - len(splits["train"])) > _MOST_COSINES:
        seen = np.unique(group[pairs[splits["train"], 1]])
        others = {name: np.unique(group[pairs[rows, 1]]) for name, rows in splits.items() if name != "train"}
        return {name: {"shared_sources": int(np.isin(sources, seen).sum())} for name, sources in others.items()}
    return split_leaks(pairs, splits, group, questions, [""] * len(questions), _NEAR)


def _tiers(opened: OpenedDataset) -> tuple[tuple[TierFigures, ...], float]:
    """Shares over all pairs, cosines over some; and the mean cosine of the positives of these."""
    tiers = opened.array("negative_tiers")
    counts = np.bincount(tiers.ravel(), minlength=5)
    measured = np.unique(np.linspace(0, len(tiers) - 1, min(len(tiers), _MEASURED_PAIRS)).astype(np.int64))
    positives, negatives = pair_cosines(opened, measured)
    figures = []
    for tier, name in TIER_NAMES.items():
        cosines = negatives[tiers[measured] == tier]
        mean = float(cosines.mean(dtype=np.float64)) if len(cosines) else None
        figures.append(TierFigures(tier, name, float(counts[tier] / max(tiers.size, 1)), mean))
    return tuple(figures), float(positives.mean(dtype=np.float64))


def pair_cosines(opened: OpenedDataset, rows: IntArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of the questions of some pairs with their sources, [n], and with their negatives, [n, N]."""
    held = {name: opened.array(name) for name in ("question_embs", "source_embs", "pair_index", "hard_negatives")}
    positives = np.empty(len(rows), dtype=np.float32)
    negatives = np.empty((len(rows), held["hard_negatives"].shape[1]), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        pairs = held["pair_index"][rows[block]]
        questions = unit(held["question_embs"][pairs[:, 0]])
        positives[block] = np.einsum("bd,bd->b", questions, unit(held["source_embs"][pairs[:, 1]]))
        hard = held["source_embs"][held["hard_negatives"][rows[block]]]
        lengths = np.maximum(np.linalg.norm(hard, axis=2), 1e-12)
        negatives[block] = np.matmul(hard, questions[:, :, None])[:, :, 0] / lengths
    return positives, negatives


def _samples(opened: OpenedDataset) -> tuple[Sample, ...]:
    """Pairs spread over train."""
    split = "train" if "train" in opened.tensors.splits else next(iter(opened.tensors.splits))
    rows = opened.tensors.splits[split].numpy()
    count = min(SAMPLES, len(rows))
    chosen = rows[[(2 * place + 1) * len(rows) // (2 * count) for place in range(count)]] if count else rows
    positives, negatives = pair_cosines(opened, chosen)
    return tuple(
        _sample(opened, split, int(row), float(positives[place]), negatives[place].tolist())
        for place, row in enumerate(chosen)
    )


def _sample(opened: OpenedDataset, split: str, row: int, cosine: float, cosines: list[float]) -> Sample:
    question, source = opened.array("pair_index")[row].tolist()
    hard, tiers = opened.array("hard_negatives")[row].tolist(), opened.array("negative_tiers")[row].tolist()
    keywords = opened.tensors.keywords[row]
    title, text = _document(opened, source)
    texts = opened.texts
    return Sample(
        split=split,
        question=f"question {question}" if texts is None else texts.questions[question].text,
        source_title=title,
        source_text=text,
        cosine=cosine,
        relevance=float(opened.array("pair_relevance")[row]),
        cluster=opened.cluster_name(int(opened.array("pair_cluster_id")[row])),
        keywords=tuple(f"keyword {word}" if texts is None else texts.keywords[word] for word in keywords),
        negatives=tuple(
            SampleNegative(*_document(opened, negative), tier, score)
            for negative, tier, score in zip(hard, tiers, cosines, strict=True)
        ),
    )


def _document(opened: OpenedDataset, row: int) -> tuple[str, str]:
    """Title (or id, or row) and text of a source."""
    if opened.texts is None:
        return f"source {row}", ""
    document = opened.texts.documents[row]
    return document.title or document.id, document.text
