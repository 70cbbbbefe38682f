"""A real sentence-transformers model of a few kilobytes, built without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = ["heart", "blood", "list", "files", "folder", "pump", "query", "passage", "the", "a", ":"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, saved_bert: Callable[..., Path]) -> Path:
    """Folder of a 2-layer, 32-dimensional BERT with random weights, reading at most 16 tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate(specials + WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 64}
    words = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return saved_bert(tmp_path_factory.mktemp("tiny"), tokenizer, 16, words, **shape, initializer_range=0.5)


@pytest.fixture
def prompted_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The same model, defining prompts of its own."""
    import shutil

    folder = tmp_path / "prompted"
    shutil.copytree(tiny_model, folder)
    settings_file = folder / "config_sentence_transformers.json"
    settings = json.loads(settings_file.read_text())
    settings["prompts"] = {"query": "query: ", "passage": "passage: "}
    settings_file.write_text(json.dumps(settings))
    return folder
