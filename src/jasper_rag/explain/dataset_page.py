"""One self-contained HTML page per dataset: topics on a map, negatives, steering, leaks, samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jasper_rag.atomic_files import write_text
from jasper_rag.explain import dataset_page_sections as sections
from jasper_rag.explain.dataset_page_data import DatasetSummary, OpenedDataset
from jasper_rag.explain.html_page import PagePart, packaged, render_page
from jasper_rag.explain.source_topics import source_topics
from jasper_rag.explain.topic_map import topic_map
from jasper_rag.explain.topic_plot import Topic, map_plot, topic_colours
from jasper_rag.models.guard import unit

MOST_TOPICS, MOST_DOTS = 256, 20_000
"""Drawn on the map; of larger sets the largest topics, and an even share of each one's sources."""


def write_dataset_page(opened: OpenedDataset, summary: DatasetSummary, path: str | Path) -> Path:
    """Write the page as one HTML file, atomically.

    Args:
        opened: The dataset.
        summary: Of it.
        path: File to create or replace.

    Returns:
        `path`.
    """
    path = Path(path)
    write_text(path, render_dataset_page(opened, summary))
    return path


def render_dataset_page(opened: OpenedDataset, summary: DatasetSummary) -> str:
    """The page as a string; the same dataset gives the same bytes."""
    plot, colours = _map(opened, summary)
    parts = (
        PagePart("topics", "Topics", sections.topics(summary, plot, colours)),
        PagePart("negatives", "Negatives", sections.negatives(summary)),
        PagePart("steering", "Steering", sections.steering(summary)),
        PagePart("splits", "Splits and leaks", sections.splits(summary)),
        PagePart("samples", "Samples", sections.samples(summary)),
        PagePart("facts", "Facts", sections.facts(summary)),
        PagePart("next", "What to run next", sections.next_steps(summary)),
    )
    style, script = packaged("report.css", "topic_plot.css", "dataset_page.css"), packaged("dataset_page.js")
    return render_page(f"{summary.name} · JASPER-RAG dataset", sections.header(summary), parts, style, script)


def _map(opened: OpenedDataset, summary: DatasetSummary) -> tuple[str, list[str]]:
    """The plot, and a colour for each topic that is on it."""
    sizes = np.array([cluster.sources for cluster in summary.clusters])
    drawn = np.sort(np.argsort(-sizes, kind="stable")[: min(MOST_TOPICS, int((sizes > 0).sum()))])
    disc_of = np.full(len(sizes), -1)
    disc_of[drawn] = np.arange(len(drawn))
    discs = disc_of[source_topics(opened.tensors)]
    rows = _dots(discs, len(drawn))
    vectors, centroids = opened.array("source_embs")[rows], opened.array("centroid_embs")[drawn]
    found = topic_map(unit(vectors), discs[rows], unit(centroids))
    named = [Topic(int(number), summary.clusters[number].name, int(sizes[number])) for number in drawn]
    colours = [""] * len(sizes)
    for number, colour in zip(drawn.tolist(), topic_colours(found), strict=True):
        colours[number] = colour
    return map_plot(found, named, discs[rows].tolist()), colours


def _dots(discs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Rows of the sources that are drawn: all on the map, or evenly spaced ones of each disc, at least one."""
    on_map = np.flatnonzero(discs >= 0)
    if len(on_map) <= MOST_DOTS:
        return on_map
    chosen = []
    for disc in range(count):
        members = np.flatnonzero(discs == disc)
        dots = max(round(MOST_DOTS * len(members) / len(on_map)), 1)
        chosen.append(members[np.linspace(0, len(members) - 1, dots).astype(np.int64)])
    return np.concatenate(chosen)
