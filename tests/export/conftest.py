"""Models to export: any blend and gate over the shared fitted one, and one with a real transformer as its encoder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import FamiliarityGate, Guard, unit

if TYPE_CHECKING:
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

WithGuard = Callable[..., Jasper]
QUERY_PROMPT, DOCUMENT_PROMPT = "query: ", "passage: "
WORDS = ["car", "road", "stone", "query", "passage", "the", ":"]


@pytest.fixture(scope="session")
def with_guard(fitted: Jasper) -> WithGuard:
    """`with_guard(alpha, gated=True)`: the fitted model with another blend, with or without its gate."""

    def make(alpha: float, gated: bool = True) -> Jasper:
        gate = fitted.model.guard.gate if gated else None
        return Jasper(dataclasses.replace(fitted.model, guard=Guard(alpha, gate)), fitted.encoder)

    return make


@pytest.fixture(scope="session")
def questions(fitted: Jasper) -> Vectors:
    """Unit questions for which the gate is open, closed and in between, float32 [n, 24]."""
    assert fitted.record is not None
    asked = fitted.record.embedded.splits["test"].vectors
    strange = unit(np.random.default_rng(1).standard_normal(asked.shape).astype(np.float32))
    every = np.concatenate([asked, strange, unit(asked + strange)])
    gate = fitted.model.guard.gate
    assert gate is not None
    opened = gate.openness(every)
    assert {0.0, 1.0} < set(opened.tolist())
    return every


@pytest.fixture
def without_jasper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing anything of this package is an ImportError."""
    for name in [name for name in sys.modules if name.split(".")[0] == "jasper_rag"]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory, saved_bert: Callable[..., Path]) -> Path:
    """A 1-layer BERT of 16 dimensions with random weights, as a sentence-transformers folder."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: row for row, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    shape |= {"max_position_embeddings": 64}
    specials = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return saved_bert(tmp_path_factory.mktemp("model"), tokenizer, 32, specials, **shape, initializer_range=0.5)


@pytest.fixture(scope="session")
def bert_encoder(bert: Path) -> SentenceEncoder:
    """The BERT with prompts and a length limit of its own."""
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    prompts = {"query_prompt": QUERY_PROMPT, "document_prompt": DOCUMENT_PROMPT}
    return SentenceEncoder(str(bert), max_seq_length=8, offline=True, device="cpu", **prompts)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def bert_jasper(fitted: Jasper, bert_encoder: SentenceEncoder) -> Jasper:
    """The corpus of `synonym_set` in the BERT's space, with a random map and a gate half-way open."""
    import torch

    from jasper_rag.jasper_config import load_config
    from jasper_rag.models.jasper_predictor import JASPERPredictor
    from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig

    predictor = JASPERPredictor(JASPERPredictorConfig(embedding_dim=16, mlp=False)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        predictor.question_map.weight.normal_(0, 0.2, generator=generator)
    texts = [document.content for document in fitted.model.documents]
    bank = bert_encoder.encode(texts[:40], "query")
    given = {"name": bert_encoder.config.name, "query_prompt": QUERY_PROMPT, "document_prompt": DOCUMENT_PROMPT}
    settings = {f"encoder.{key}": value for key, value in {**given, "max_seq_length": 8, "device": "cpu"}.items()}
    model = dataclasses.replace(
        fitted.model,
        config=load_config(overrides=settings).model_dump(),
        identity=bert_encoder.identity(),
        vectors=DocumentVectors(bert_encoder.encode(texts, "document")),
        predictor=predictor,
        # Random weights put all texts close together: a ramp that is wide enough not to magnify rounding.
        guard=Guard(0.7, FamiliarityGate(bank, 0.0, 1.1)),
    )
    return Jasper(model, bert_encoder, offline=True)
