"""A corpus in which the way from question to source can be learnt: the questions are the documents, turned."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Role
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.text.pair_files import TrainingExample, write_examples
from jasper_rag.text.records import Document, RetrievalSet
from jasper_rag.training.run_config import RunConfig, load_run_config
from jasper_rag.training.subspace_config import load_subspace_config
from jasper_rag.training.subspace_run import prepare_subspace_run
from jasper_rag.training.training_run import TrainingRun, prepare_run

DOCUMENTS, DIM = 200, 16
SPLITS = {"train": range(120), "dev": range(120, 200)}


def queries_of(vectors: Vectors, rows: Sequence[int]) -> EmbeddedQueries:
    """Question r is answered by document r alone."""
    ids = tuple(f"q{row}" for row in rows)
    judgements = Judgements(np.arange(len(rows) + 1), np.array(rows), np.ones(len(rows), dtype=np.int64))
    return EmbeddedQueries(ids, ids, vectors[list(rows)], judgements)


@pytest.fixture(scope="package")
def turned() -> EmbeddedSet:
    """200 documents in 16 dimensions; question r is document r turned by one rotation for all, with noise."""
    generator = np.random.default_rng(0)
    documents = unit(generator.standard_normal((DOCUMENTS, DIM)).astype(np.float32))
    plane = generator.standard_normal((DIM, DIM))
    noise = generator.standard_normal((DOCUMENTS, DIM))
    questions = unit((documents @ expm(0.2 * (plane - plane.T)) + 0.1 * noise).astype(np.float32))
    return EmbeddedSet(
        name="turned",
        documents=tuple(Document(f"d{row}", f"text {row}") for row in range(DOCUMENTS)),
        vectors=DocumentVectors(documents),
        splits={split: queries_of(questions, rows) for split, rows in SPLITS.items()},
        text_group=np.arange(DOCUMENTS),
        reports={},
    )


class _Words:
    """A bag of words in 8 dimensions."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        rows = [sum(map(self._vector, re.findall(r"[a-z]+", text.lower()))) for text in texts]
        return unit(np.array(rows, dtype=np.float32).reshape(len(texts), 8))

    def _vector(self, word: str) -> Vectors:
        generator = np.random.default_rng(zlib.crc32(word.encode()))
        return generator.standard_normal(8).astype(np.float32)

    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(name="words-8", weights_sha256="8" * 64, dimension=8)


@pytest.fixture(scope="package")
def steering_root(synonym_set: RetrievalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A steering dataset: 40 train, 5 val and 5 test pairs, 8 dimensions, 3 clusters, 3 negatives."""
    kept = synonym_set.queries[:50]
    qrels = {query.id: synonym_set.qrels["all"][query.id] for query in kept}
    small = RetrievalSet("small", synonym_set.documents[:50], kept, {"all": qrels})
    config = BuildConfig.model_validate({"n_clusters": 3, "negatives": {"n_neg": 3}})
    folder = tmp_path_factory.mktemp("steering")
    built = build_dataset(plan_build(BuildInput(small), config), _Words(), EmbeddingStore(folder / "store"))
    return write_dataset(built, folder / "dataset")


TINY: dict[str, Any] = {
    "model.embedding_dim": 8,
    "model.hidden_dim": 8,
    "model.num_layers": 2,
    "model.dropout": 0.2,
    "training.batch_size": 8,
    "training.num_epochs": 3,
    "training.warmup_epochs": 1,
    "training.learning_rate": 0.01,
    "training.device": "cpu",
    "training.save_every_n_epochs": 1,
    "dataset.n_neg": 3,
}


@pytest.fixture(scope="package")
def configured() -> Callable[[dict[str, Any]], RunConfig]:
    """Settings of a tiny run, with dotted changes."""
    return lambda changes: load_run_config(None, TINY | changes)


@pytest.fixture(scope="package")
def prepared(steering_root: Path, configured: Callable[[dict[str, Any]], RunConfig]) -> Callable[..., TrainingRun]:
    """A tiny run that writes into a directory, with dotted changes of its settings."""

    def prepare(output_dir: Path, **changes: Any) -> TrainingRun:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return prepare_run(configured(dotted), steering_root, output_dir)

    return prepare


@pytest.fixture(scope="package")
def routed(steering_root: Path) -> Callable[..., TrainingRun]:
    """A tiny run of the subspace model that writes into a directory, with dotted changes of its settings."""

    def prepare(output_dir: Path, **changes: Any) -> TrainingRun:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        settings = {**TINY, "training.num_epochs": 2, "training.warmup_epochs": 0, "router.hidden_dim": 8, **dotted}
        return prepare_subspace_run(load_subspace_config(None, settings), steering_root, output_dir)

    return prepare


@pytest.fixture(scope="session")
def synonym_pairs(synonym_set: RetrievalSet) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """The synonym set as 120 pairs to train on, each with a negative, and 40 to validate with."""
    documents = {document.id: document.text for document in synonym_set.documents}
    texts = list(documents.values())
    pairs = [
        TrainingExample(query.text, documents[next(iter(synonym_set.qrels["all"][query.id]))])
        for query in synonym_set.queries
    ]
    given = [
        TrainingExample(pair.query, pair.positive, texts[(place + 7) % 120]) for place, pair in enumerate(pairs[:120])
    ]
    return given, pairs[120:]


@pytest.fixture(scope="session")
def pair_files(
    synonym_pairs: tuple[list[TrainingExample], list[TrainingExample]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Paths of `synonym_pairs`, train and val."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, pairs in zip(("train", "val"), synonym_pairs, strict=True):
        write_examples(folder / f"{name}.json", pairs)
    return str(folder / "train.json"), str(folder / "val.json")


@pytest.fixture(scope="session")
def tiny_bert(
    word_vectors: dict[str, list[float]], tmp_path_factory: pytest.TempPathFactory, saved_bert: Callable[..., Path]
) -> Path:
    """Folder of a 2-layer, 16-dimensional BERT with random weights and dropout that knows the synonym set's words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *word_vectors])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"max_position_embeddings": 32}
    folder = tmp_path_factory.mktemp("tiny")
    return saved_bert(folder, tokenizer, 16, {}, **shape, initializer_range=0.5, hidden_dropout_prob=0.1)
