from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from jasper_rag.embedding.gaussian_checkpoint import write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.retrieval.distance_index import Backend
from jasper_rag.retrieval.gaussian_retriever import GaussianHit, GaussianRetriever

TEXTS = ["car and road", "doctor and child", "house and sofa", "film and shop", "forest and stone"]
QUERY = "automobile or road"


@pytest.fixture
def retriever(gaussian: GaussianEmbeddingGemma) -> GaussianRetriever:
    found = GaussianRetriever.from_model(gaussian)
    found.add_documents(TEXTS)
    return found


def expected(model: GaussianEmbeddingGemma, query: str, texts: list[str]) -> list[tuple[str, float]]:
    with torch.no_grad():
        asked = model.predict_query(model.encode([query], role="query")).numpy().astype(np.float64)
    distances = np.linalg.norm(model.encode(texts, convert_to_numpy=True) - asked, axis=1)
    return sorted(zip(texts, distances.tolist(), strict=True), key=lambda pair: pair[1])


def test_the_documented_calls(checkpoint: Path, gaussian: GaussianEmbeddingGemma) -> None:
    retriever = GaussianRetriever(str(checkpoint))
    assert retriever.embedding_dim == 16
    retriever.add_documents(TEXTS)
    results = retriever.retrieve(QUERY, top_k=3)
    for (text, distance), (right, far) in zip(results, expected(gaussian, QUERY, TEXTS)[:3], strict=True):
        assert text == right
        assert distance == pytest.approx(far, abs=1e-4)
    assert [distance for _, distance in results] == sorted(distance for _, distance in results)
    assert len(retriever.retrieve(QUERY)) == 5
    (first, _) = retriever.retrieve_batch([QUERY, "shop"], 2)
    assert dict(first) == pytest.approx(dict(results[:2]), abs=1e-4)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_distances_are_not_squared_on_any_backend(gaussian: GaussianEmbeddingGemma, backend: Backend) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    retriever = GaussianRetriever.from_model(gaussian, backend)
    retriever.add_documents(TEXTS)
    found = dict(retriever.retrieve(QUERY, 5))
    assert found == pytest.approx(dict(expected(gaussian, QUERY, TEXTS)), abs=1e-4)


def test_the_predictor_is_applied_to_queries_only(retriever: GaussianRetriever, word_model: Path) -> None:
    plain = GaussianEmbeddingGemma(16, str(word_model), freeze_base=True, device="cpu").eval()
    plain.projection.load_state_dict(retriever.model.projection.state_dict())
    other = GaussianRetriever.from_model(plain)
    other.add_documents(TEXTS)
    np.testing.assert_array_equal(other._index.vectors, retriever._index.vectors)
    assert other.retrieve(TEXTS[0], 1)[0][1] == pytest.approx(0, abs=1e-4)
    assert retriever.retrieve(TEXTS[0], 1)[0][1] > 0.1


def test_documents_come_and_go_with_ids_and_metadata(
    retriever: GaussianRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retriever.ids == ["0", "1", "2", "3", "4"]
    encoded: list[str] = []
    encode = retriever.model.encode

    def counted(texts: list[str], *arguments: Any, **settings: Any) -> Any:
        encoded.extend(texts)
        return encode(texts, *arguments, **settings)

    monkeypatch.setattr(retriever.model, "encode", counted)
    assert retriever.add_documents(["error and engine"], 1, ids=["6"], metadata=[{"page": 3}]) == ["6"]
    assert retriever.add_documents(["gift", "gift"]) == ["7", "8"]
    assert encoded == ["error and engine", "gift", "gift"]
    monkeypatch.undo()
    (hits,) = retriever.search(["error and engine"], 8)
    assert len(hits) == 8
    hit = next(hit for hit in hits if hit.id == "6")
    assert hit == GaussianHit("6", "error and engine", {"page": 3}, hit.distance)
    retriever.delete(["6", "0"])
    retriever.delete("7")
    assert retriever.ids == ["1", "2", "3", "4", "8"]
    left = retriever.search(["error and engine"], 99)[0]
    assert {hit.id for hit in left} == set(retriever.ids)
    assert all(hit.metadata == {} for hit in left)
    with pytest.raises(InputError, match="there is no document '6'"):
        retriever.delete(["1", "6"])
    assert retriever.ids[0] == "1"
    retriever.add_documents(["car"], ids=["6"])
    retriever.clear()
    assert (len(retriever), retriever.retrieve(QUERY), retriever.search(["a", "b"])) == (0, [], [[], []])


def test_running_numbers_step_over_ids_that_are_taken(gaussian: GaussianEmbeddingGemma) -> None:
    retriever = GaussianRetriever.from_model(gaussian)
    retriever.add_documents(["car", "road"], ids=["2", "x"])
    assert retriever.add_documents(["house", "sofa"]) == ["3", "4"]


def test_few_and_no_results(retriever: GaussianRetriever) -> None:
    assert retriever.retrieve(QUERY, 0) == retriever.retrieve(QUERY, -3) == []
    assert retriever.search([], 5) == []
    assert retriever.add_documents([]) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.retrieve("  "), "query 0 is blank"),
        (lambda r: r.retrieve(["car"]), r"the query is \['car'\]"),
        (lambda r: r.retrieve_batch("car"), "one text \\('car'\\) where queries are expected"),
        (lambda r: r.search(["car", ""]), "query 1 is blank"),
        (lambda r: r.add_documents("car"), "where documents are expected"),
        (lambda r: r.add_documents(["car", " \n"]), "document 1 is blank"),
        (lambda r: r.add_documents([None]), "text 0 is None"),
        (lambda r: r.add_documents(["car"], 0), "a batch of 0 texts"),
        (lambda r: r.add_documents(["car"], ids=["a", "b"]), "2 ids for 1 documents"),
        (lambda r: r.add_documents(["car"], ids="a"), "1 ids for 1 documents"),
        (lambda r: r.add_documents(["car"], ids=["0"]), "the id '0' is taken"),
        (lambda r: r.add_documents(["car", "road"], ids=["a", "a"]), "the id 'a' is taken"),
        (lambda r: r.add_documents(["car"], ids=[""]), "'' is no id"),
        (lambda r: r.add_documents(["car"], ids=["\ud800"]), "not valid Unicode"),
        (lambda r: r.add_documents(["car"], metadata=[]), "metadata of 0 for 1 documents"),
        (lambda r: r.add_documents(["car"], metadata=[{"a": {1, 2}}]), "metadata 0 cannot be kept"),
        (lambda r: r.add_documents(["car"], metadata=[{"a": float("nan")}]), "metadata 0 cannot be kept"),
        (lambda r: r.add_documents(["car"], metadata=[{"a": "\ud800"}]), "metadata 0 cannot be kept"),
        (lambda r: r.add_documents(["car"], metadata=[["a"]]), r"metadata 0 is \['a'\]"),
    ],
)
def test_bad_calls_change_nothing(retriever: GaussianRetriever, call: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call(retriever)
    assert caught.value.remedy
    assert len(retriever) == 5


def test_the_dimension_is_the_checkpoints(checkpoint: Path) -> None:
    assert GaussianRetriever(checkpoint, 16).embedding_dim == 16
    with pytest.raises(InputError, match="has embeddings of 16 dimensions, not 512"):
        GaussianRetriever(checkpoint, embedding_dim=512)


def test_a_base_model_without_a_checkpoint_ranks_as_it_does(word_model: Path) -> None:
    retriever = GaussianRetriever(base_model=str(word_model))
    assert (retriever.embedding_dim, GaussianRetriever(None, 24, base_model=str(word_model)).embedding_dim) == (512, 24)
    retriever.add_documents(TEXTS)
    base = retriever.model.encode_base([QUERY, *TEXTS]).numpy()
    order = np.argsort(-(base[1:] @ base[0]), kind="stable")
    assert [text for text, _ in retriever.retrieve(QUERY)] == [TEXTS[row] for row in order]


def test_use_gpu_without_one_warns_and_goes_on(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        retriever = GaussianRetriever(checkpoint, use_gpu=True)
    assert "there is no GPU here" in caplog.text
    assert retriever.model.device.type == "cpu"


def test_a_missing_checkpoint_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint here"):
        GaussianRetriever(tmp_path / "best_model.pt")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_distances(checkpoint: Path, retriever: GaussianRetriever) -> None:
    on_gpu = GaussianRetriever(checkpoint, use_gpu=True)
    on_gpu.add_documents(TEXTS)
    assert on_gpu.model.device.type == "cuda"
    assert dict(on_gpu.retrieve(QUERY)) == pytest.approx(dict(retriever.retrieve(QUERY)), abs=1e-4)


@pytest.mark.slow
def test_an_index_is_saved_and_loaded(retriever: GaussianRetriever, checkpoint: Path, tmp_path: Path) -> None:
    retriever.add_documents(["line\nbreak and \u2028 \x00 gift"], ids=["é"], metadata=[{"tags": ["a"], "n": 1}])
    retriever.delete(["2"])
    retriever.save_index(tmp_path / "index")
    names = sorted(path.name for path in (tmp_path / "index").iterdir())
    assert names == ["documents.jsonl", "gaussian_index.json", "vectors.safetensors"]
    other = GaussianRetriever(checkpoint)
    other.add_documents(["something else, to be replaced"])
    other.load_index(tmp_path / "index")
    assert other.search([QUERY, "gift"], 9) == retriever.search([QUERY, "gift"], 9)
    assert other.ids == retriever.ids
    other.add_documents(["car"])
    other.save_index(tmp_path / "index")
    retriever.load_index(tmp_path / "index")
    assert len(retriever) == 6
    assert len(json.loads((tmp_path / "index" / "gaussian_index.json").read_text())["sha256"]) == 2


def test_an_empty_index_can_be_kept_too(gaussian: GaussianEmbeddingGemma, tmp_path: Path) -> None:
    GaussianRetriever.from_model(gaussian).save_index(tmp_path / "index")
    other = GaussianRetriever.from_model(gaussian)
    other.load_index(tmp_path / "index")
    assert (len(other), other.retrieve(QUERY)) == (0, [])


@pytest.mark.slow
def test_an_index_of_another_model_is_refused(retriever: GaussianRetriever, word_model: Path, tmp_path: Path) -> None:
    retriever.save_index(tmp_path / "index")
    identity = GaussianEmbeddingGemma(16, str(word_model), freeze_base=True, device="cpu")
    path = tmp_path / "other.pt"
    write_gaussian_checkpoint(path, identity.state())
    other = GaussianRetriever(path)
    other.add_documents(["car"])
    with pytest.raises(InputError, match=r"built with another model: .*differ in weights") as caught:
        other.load_index(tmp_path / "index")
    assert "add the documents anew" in caught.value.remedy
    assert other.ids == ["0"]
