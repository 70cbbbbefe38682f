"""The environment of every test: offline, deterministic, nothing written outside temporary directories."""

from __future__ import annotations

import itertools
import os
import random
import re
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.text.records import Document, Query, RetrievalSet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from jasper_rag.jasper import Jasper
    from jasper_rag.jasper_config import JasperConfig

# Derandomised and without a deadline: a run on a busy machine gives what the last one gave. `make slow` repeats every
# property with the examples of "thorough".
settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=15)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=150)
settings.load_profile("quick")

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module is imported, so that subprocesses inherit it too."""
    cache = tempfile.TemporaryDirectory(prefix="jasper-tests-")
    config.stash[_CACHE] = cache
    os.environ["JASPER_CACHE"] = cache.name
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["MPLBACKEND"] = "Agg"
    # One thread: sums in one order, and no oversubscription. Set here, not through torch, so light tests stay light.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the tests' cache."""
    config.stash[_CACHE].cleanup()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the working tree."""
    return Path(__file__).resolve().parents[1]


_PAIRS = """
car/automobile doctor/physician child/infant road/street house/dwelling film/movie stone/rock ship/vessel
forest/woods sofa/couch shop/store autumn/fall lawyer/attorney truck/lorry garbage/rubbish picture/image
journey/trip error/mistake engine/motor soil/earth pupil/student gift/present illness/disease friend/comrade
"""
SYNONYMS = dict(pair.split("/") for pair in _PAIRS.split())
"""What documents say -> what questions say."""


class WordEncoder:
    """A bag of words: each word has a random direction of its own, so synonyms have nothing in common."""

    def __init__(self, seed: int = 0, dimension: int = 24) -> None:
        self.seed, self.dimension = seed, dimension

    def vector(self, word: str) -> Vectors:
        """Direction of one word, float32 [D]."""
        generator = np.random.default_rng([self.seed, zlib.crc32(word.encode())])
        return generator.standard_normal(self.dimension).astype(np.float32)

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        sums = [sum(map(self.vector, re.findall(r"[a-z]+", text.lower()))) for text in texts]
        vectors = np.array(sums, dtype=np.float32).reshape(len(texts), self.dimension)
        normalised: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normalised

    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(name=f"words-{self.seed}", weights_sha256=f"{self.seed:064x}", dimension=self.dimension)


@pytest.fixture
def word_encoder() -> WordEncoder:
    """A fresh encoder of 24 dimensions; equal to every other one."""
    return WordEncoder()


@pytest.fixture(scope="session")
def synonym_set() -> RetrievalSet:
    """Set of 160 documents of three words; each is asked for by one of its words and synonyms of the other two.

    Neither a plain bag of words nor BM25 finds them; a linear map from synonym to word does.
    """
    generator = random.Random(0)
    documents, queries, qrels = [], [], {}
    for number, words in enumerate(generator.sample(list(itertools.combinations(SYNONYMS, 3)), 160)):
        kept, *replaced = generator.sample(words, 3)
        documents.append(Document(f"d{number}", f"{' and '.join(words)}", f"Note {number}"))
        queries.append(Query(f"q{number}", f"{' or '.join([kept, *(SYNONYMS[word] for word in replaced)])}?"))
        qrels[f"q{number}"] = {f"d{number}": 1}
    return RetrievalSet("synonyms", tuple(documents), tuple(queries), {"all": qrels})


@pytest.fixture(scope="session")
def word_vectors() -> dict[str, list[float]]:
    """The directions that `WordEncoder` gives to the words of `synonym_set`."""
    words = [*SYNONYMS, *SYNONYMS.values(), "and", "or", "note"]
    return {word: WordEncoder().vector(word).tolist() for word in words}


@pytest.fixture(scope="session")
def word_model(tmp_path_factory: pytest.TempPathFactory, word_vectors: dict[str, list[float]]) -> Path:
    """A real sentence-transformers folder that embeds as the `WordEncoder` does; unknown words count nothing."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: row for row, word in enumerate(["[UNK]", *word_vectors])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.array([[0.0] * 24, *word_vectors.values()], dtype=np.float32)
    folder = tmp_path_factory.mktemp("words") / "model"
    embedding = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[embedding], device="cpu").save(str(folder), create_model_card=False)
    return folder


def save_bert(folder: Path, tokenizer: Tokenizer, max_seq_length: int, specials: dict[str, str], **shape: Any) -> Path:
    """Write a BERT of random weights, the same ones every time, as a sentence-transformers folder with mean pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    base, model = folder / "bert", folder / "model"
    known = {"pad_token": "[PAD]", "unk_token": "[UNK]", **specials}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **known).save_pretrained(base)  # type: ignore[no-untyped-call]
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), **shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        BertModel(config).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=max_seq_length), Pooling(config.hidden_size, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(model), create_model_card=False)
    return model


@pytest.fixture(scope="session")
def saved_bert() -> Callable[..., Path]:
    """`save_bert`."""
    return save_bert


@pytest.fixture(scope="session")
def quick_settings() -> dict[str, float]:
    """Dotted settings under which `synonym_set` is learnt in a quarter of a second."""
    rates = {"training.learning_rate_start": 0.003, "training.learning_rate_end": 0.02}
    # A ramp over 16 dev questions that is wide enough not to magnify rounding.
    return {"training.steps": 60, "training.evaluations": 6, **rates, "guard.gate_high": 0.2, "topics.steps": 40}


@pytest.fixture(scope="session")
def quick_config(quick_settings: dict[str, float]) -> JasperConfig:
    """`quick_settings` as a configuration."""
    from jasper_rag.jasper_config import load_config

    return load_config(overrides=quick_settings)


@pytest.fixture(scope="session")
def fitted(synonym_set: RetrievalSet, quick_config: JasperConfig) -> Jasper:
    """Fitted on `synonym_set` with the `WordEncoder`; shared, so leave it as it is."""
    from jasper_rag.jasper import Jasper

    return Jasper.fit(synonym_set, encoder=WordEncoder(), config=quick_config)
