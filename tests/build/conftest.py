"""A small library of five topics, and datasets built from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import BuiltDataset, build_dataset
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import Document, Query, RetrievalSet

WORDS = {
    "sea": "ship harbour sailor anchor wave tide",
    "garden": "rose tulip spade hedge lawn orchard",
    "music": "violin piano drum choir opera flute",
    "kitchen": "oven kettle spoon flour butter pepper",
    "weather": "storm thunder drizzle frost breeze cloud",
}

Build = Callable[..., BuiltDataset]


def library_set() -> RetrievalSet:
    """Five topics of eight sources with two questions each; two of the questions have two sources."""
    documents, queries, qrels = [], [], {}
    for topic, words in WORDS.items():
        triples = list(itertools.combinations(words.split(), 3))
        for number in range(8):
            one, two, three = triples[2 * number]
            documents.append(Document(f"{topic}-{number}", f"{one} {two} {three} {topic}", topic, topic))
            for asked, pair in enumerate(((one, two), (two, three))):
                query = f"{topic}-{number}-{asked}"
                queries.append(Query(query, " ".join((*pair, topic))))
                qrels[query] = {f"{topic}-{number}": 1}
    qrels["sea-0-0"]["sea-1"] = 1
    qrels["sea-1-0"]["sea-0"] = 1
    return RetrievalSet("library", tuple(documents), tuple(queries), {"all": qrels})


@pytest.fixture(scope="session")
def library() -> RetrievalSet:
    """See `library_set`."""
    return library_set()


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """An empty store."""
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def build(word_encoder: Encoder, store: EmbeddingStore) -> Build:
    """Build in memory: a set or an input, settings by name, perhaps a cluster file."""

    def run(
        given: RetrievalSet | BuildInput,
        cluster_file: Path | None = None,
        encoder: Encoder | None = None,
        **settings: Any,
    ) -> BuiltDataset:
        held = given if isinstance(given, BuildInput) else BuildInput(given)
        config = BuildConfig.model_validate({"negatives": {"n_neg": 4}, **settings})
        return build_dataset(plan_build(held, config, cluster_file), encoder or word_encoder, store)

    return run
