"""A built dataset to look at, the same as the original project would leave it, and a report with routing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import EXTRA_FILES, write_dataset
from jasper_rag.data.conversion import convert_dataset
from jasper_rag.dataset_layout import TEXT_FILES
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.explain.routing_view import RoutingView, routing_view
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import Topics
from jasper_rag.text.records import RetrievalSet


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, synonym_set: RetrievalSet, fitted: Jasper) -> Path:
    """`synonym_set` as a dataset directory; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("datasets")
    config = BuildConfig.model_validate({"n_clusters": 6, "negatives": {"n_neg": 4}, "split": "question"})
    plan = plan_build(BuildInput(synonym_set), config)
    built = build_dataset(plan, fitted.encoder, EmbeddingStore(folder / "store"))
    return write_dataset(built, folder / "synonyms")


@pytest.fixture(scope="session")
def foreign(dataset: Path) -> Path:
    """The same as the original project would leave it: `.pt` files, no texts, nothing of ours."""
    root = convert_dataset(dataset, dataset.parent / "foreign", "pt")
    for name in (*TEXT_FILES, *EXTRA_FILES):
        (root / name).unlink()
    return root


def routed_view(sources: int = 120, count: int = 6, asked: int = 40, shown: int = 12, dim: int = 24) -> RoutingView:
    """Questions around the topics of their answers, some of them routed elsewhere."""
    generator = np.random.default_rng(0)
    centroids = unit(generator.standard_normal((count, dim)).astype(np.float32))
    assignment = np.concatenate([np.arange(count), generator.integers(count, size=sources - count)])
    vectors = unit(centroids[assignment] + 0.1 * generator.standard_normal((sources, dim)).astype(np.float32))
    right = np.arange(asked) % count
    questions, predictions = (
        unit(centroids[right] + spread * generator.standard_normal((asked, dim)).astype(np.float32))
        for spread in (0.35, 0.1)
    )
    hits = np.argsort(-(predictions[:shown] @ vectors.T), axis=1, kind="stable")[:, :10]
    powers = np.exp(questions @ centroids.T / 0.1)
    names = tuple(f"topic{number}, words" for number in range(count))
    return routing_view(
        vectors,
        [f"Source {number:,} with a title that is about sixty letters long" for number in range(sources)],
        Topics(names, tuple((name,) for name in names), centroids, assignment),
        [f"Which thing is number {number}?" for number in range(asked)],
        questions,
        predictions,
        np.concatenate([hits, np.full((asked - shown, 10), -1)]),
        (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
        right,
        np.arange(shown),
    )


@pytest.fixture(scope="session")
def make_view() -> Callable[..., RoutingView]:
    """`routed_view`, to be called with other sizes."""
    return routed_view


@pytest.fixture(scope="session")
def routing_report(make_view: Callable[..., RoutingView]) -> ReportData:
    """A run with routing, steering by epoch and examples that ask what the map's questions ask."""
    view = make_view()
    history = [
        {"epoch": epoch, "train/total": 2.0 - epoch, "val/ndcg@10": 0.5 + epoch / 10, "val/routing_acc": 0.6}
        | {"val/ndcg@10_centroid": 0.7, "val/ndcg@10_mine": 0.4, "val/routing_entropy": 1.5}
        for epoch in range(3)
    ]
    hits = tuple(Hit(f"d{rank}", f"Title {rank}", "Text.", 0.5, rank == 1) for rank in range(10))
    examples = tuple(Example(question.text, hits, hits[::-1]) for question in view.questions)
    metrics = {"systems": {"plain": {"ndcg@10": 0.5}, "jasper": {"ndcg@10": 0.6}}}
    return ReportData("A run", metrics, history=history, examples=examples, routing=view)
