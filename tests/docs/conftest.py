"""A working folder in which the pages' code blocks find a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet


@pytest.fixture
def wiki(synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path) -> Path:
    """A folder with a steering dataset under `datasets/wiki`."""
    kept = synonym_set.queries[:50]
    qrels = {query.id: synonym_set.qrels["all"][query.id] for query in kept}
    small = RetrievalSet("small", synonym_set.documents[:50], kept, {"all": qrels})
    config = BuildConfig.model_validate({"n_clusters": 3, "negatives": {"n_neg": 3}})
    built = build_dataset(plan_build(BuildInput(small), config), word_encoder, EmbeddingStore(tmp_path / "store"))
    write_dataset(built, tmp_path / "datasets" / "wiki")
    return tmp_path
