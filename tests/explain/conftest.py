"""A built dataset to look at, and the same as the original project would leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import EXTRA_FILES, write_dataset
from jasper_rag.data.conversion import convert_dataset
from jasper_rag.dataset_layout import TEXT_FILES
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.jasper import Jasper
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
