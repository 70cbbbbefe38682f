from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.errors import InputError
from jasper_rag.export import sentence_transformer
from jasper_rag.export.sentence_transformer import write_sentence_transformer
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import Guard

TEXTS = ["the car on the road", "stone", "a stone on the road and the car and the stone on the road"]

STRANGER = """
import json, socket, sys
sys.modules["jasper_rag"] = None  # an import would fail, wherever the package is installed
def refuse(*_): raise OSError("no network")
socket.socket.connect = refuse
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1])
texts = json.loads(sys.argv[2])
np.savez("moved.npz", query=model.encode_query(texts), document=model.encode_document(texts), plain=model.encode(texts))
"""


@pytest.fixture(scope="module")
def exported(bert_jasper: Jasper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert write_sentence_transformer(bert_jasper, folder) <= 1e-5
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("without_jasper")
def test_the_model_needs_nothing_of_ours(exported: Path, bert_jasper: Jasper) -> None:
    model = SentenceTransformer(str(exported), device="cpu")
    questions = bert_jasper.encoder.encode(TEXTS, "query")
    plain = bert_jasper.encoder.encode(TEXTS, "document")
    expected = bert_jasper.transform(questions)
    assert np.abs(expected - questions).max() > 0.01  # the prediction is not the question
    np.testing.assert_allclose(model.encode_query(TEXTS), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode_document(TEXTS), plain, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode(TEXTS), plain, rtol=0, atol=1e-5)
    assert (model.max_seq_length, model.get_embedding_dimension(), model.similarity_fn_name) == (8, 16, "cosine")


@pytest.mark.slow
def test_a_process_without_this_package_gets_the_same_numbers(
    exported: Path, bert_jasper: Jasper, tmp_path: Path
) -> None:
    command = [sys.executable, "-I", "-c", STRANGER, str(exported), json.dumps(TEXTS)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    moved = np.load(tmp_path / "moved.npz")
    expected = bert_jasper.transform(bert_jasper.encoder.encode(TEXTS, "query"))
    plain = bert_jasper.encoder.encode(TEXTS, "document")
    for name, vectors in (("query", expected), ("document", plain), ("plain", plain)):
        np.testing.assert_allclose(moved[name], vectors, rtol=0, atol=1e-5)


def test_modules_are_stock_and_the_encoder_is_there_once(exported: Path) -> None:
    routes = json.loads((exported / "router_config.json").read_text(encoding="utf-8"))
    assert all(name.startswith("sentence_transformers.") for name in routes["types"].values())
    assert routes["structure"]["query"][:3] == routes["structure"]["document"]
    assert sum("Transformer" in path.parent.name for path in exported.rglob("model.safetensors")) == 1
    assert not list(exported.rglob("*.py"))


@pytest.mark.slow
def test_a_plain_model_has_no_modules_behind_the_encoder(bert_jasper: Jasper, tmp_path: Path) -> None:
    model = dataclasses.replace(bert_jasper.model, guard=Guard(0.0))
    write_sentence_transformer(Jasper(model, bert_jasper.encoder), tmp_path)
    structure = json.loads((tmp_path / "router_config.json").read_text(encoding="utf-8"))["structure"]
    assert structure["query"] == structure["document"]


@pytest.mark.slow
def test_an_export_can_be_the_encoder_of_the_next(exported: Path, bert_jasper: Jasper, tmp_path: Path) -> None:
    encoder = SentenceEncoder(str(exported), offline=True, device="cpu")
    texts = [document.content for document in bert_jasper.model.documents]
    model = dataclasses.replace(
        bert_jasper.model,
        identity=encoder.identity(),
        vectors=DocumentVectors(encoder.encode(texts, "document")),
    )
    jasper = Jasper(model, encoder)
    write_sentence_transformer(jasper, tmp_path)
    again = SentenceTransformer(str(tmp_path), device="cpu")
    expected = jasper.transform(encoder.encode(TEXTS, "query"))
    np.testing.assert_allclose(again.encode_query(TEXTS), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS, "document"), rtol=0, atol=1e-5)


def test_other_encoders_are_refused(fitted: Jasper, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a sentence-transformers model") as caught:
        write_sentence_transformer(fitted, tmp_path)
    assert "numpy or ONNX" in caught.value.remedy
    assert not any(tmp_path.iterdir())


def test_half_precision_is_refused(bert_jasper: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert_jasper.encoder, "dtype", "bfloat16")
    with pytest.raises(InputError, match="computes in bfloat16, not float32"):
        write_sentence_transformer(bert_jasper, tmp_path)


def test_modules_of_ones_own_are_refused(bert_jasper: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_transformer, "STOCK", "sentence_transformers.base.")
    with pytest.raises(InputError, match=r"does not come with: .*Pooling"):
        write_sentence_transformer(bert_jasper, tmp_path)


def test_a_model_that_differs_does_not_count(
    bert_jasper: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets_the_map(*_: object) -> list[torch.nn.Module]:
        return []

    monkeypatch.setattr(sentence_transformer, "query_modules", forgets_the_map)
    with pytest.raises(InputError, match="the sentence-transformers model would differ from this model by up to"):
        write_sentence_transformer(bert_jasper, tmp_path)
