from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import embed_documents
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.errors import InputError
from jasper_rag.fitting.living_corpus import require_new, with_documents, without_documents
from jasper_rag.fitting.model_fitting import lexical_index
from jasper_rag.jasper import Jasper, Ranker
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.chunking_config import ChunkingConfig
from jasper_rag.text.records import Document

NEW = tuple(
    Document(f"new{row}", f"stone and road and {word} or note", "Note") for row, word in enumerate(["car", "sofa"])
)
QUESTION = "automobile or rock or road?"
CUT = ChunkingConfig(how="tokens", size=2, overlap=1)


@pytest.fixture
def living(fitted: Jasper) -> Jasper:
    """The fitted model, to change."""
    return Jasper(fitted.model, fitted.encoder)


@pytest.fixture
def in_passages(fitted: Jasper) -> Jasper:
    """The fitted model with its documents cut into passages of two words."""
    vectors, _ = embed_documents(fitted.model.documents, fitted.encoder, EmbeddingStore(), CUT)
    config = fitted.model.config | {"chunking": CUT.model_dump()}
    return Jasper(dataclasses.replace(fitted.model, vectors=vectors, config=config), fitted.encoder)


def files_below(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def assert_same_vectors(found: DocumentVectors, expected: DocumentVectors) -> None:
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert (found.passages is None) == (expected.passages is None)
    if found.passages is not None and expected.passages is not None:
        np.testing.assert_array_equal(found.passages.starts, expected.passages.starts)
        np.testing.assert_array_equal(found.passages.spans, expected.passages.spans)


def assert_fresh(model: SavedModel, documents: Sequence[Document], encoder: Encoder, tmp_path: Path) -> None:
    """The model's corpus is, to the bit, one built from these documents at once."""
    chunking = ChunkingConfig.model_validate(model.config["chunking"])
    vectors, _ = embed_documents(documents, encoder, EmbeddingStore(tmp_path / "store"), chunking)
    lexical = lexical_index(documents, "english")
    assert model.documents == tuple(documents)
    assert_same_vectors(model.vectors, vectors)
    assert model.lexical is not None
    assert lexical is not None
    model.lexical.save(tmp_path / "grown")
    lexical.save(tmp_path / "fresh")
    assert files_below(tmp_path / "grown") == files_below(tmp_path / "fresh")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["living", "in_passages"])
def test_a_changed_corpus_is_as_one_built_at_once(
    kind: str, fitted: Jasper, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    jasper: Jasper = request.getfixturevalue(kind)
    before = jasper.model
    jasper.add(NEW[:1])
    jasper.remove(["d0", "d7", "d159"])
    jasper.add([NEW[1], before.documents[7]])
    jasper.remove({"new0"})
    kept = [document for document in before.documents if document.id not in {"d0", "d7", "d159"}]
    assert_fresh(jasper.model, [*kept, NEW[1], before.documents[7]], fitted.encoder, tmp_path)
    # Nothing was trained again.
    assert jasper.model.predictor is before.predictor
    assert (jasper.model.guard, jasper.model.weights) == (before.guard, before.weights)
    assert len(fitted.model.documents) == 160


def test_new_documents_are_found_and_removed_ones_are_not(living: Jasper) -> None:
    rankers: tuple[Ranker, ...] = ("hybrid", "dense", "plain")
    living.add(NEW)
    for ranker in rankers:
        assert "new0" in {hit.document.id for hit in living.search(QUESTION, 20, ranker)}
    first = living.search(QUESTION)[0].document.id
    living.remove([first])
    for ranker in rankers:
        assert first not in {hit.document.id for hit in living.search(QUESTION, 1000, ranker)}


@pytest.mark.slow
def test_what_is_saved_is_what_there_is_now(living: Jasper, in_passages: Jasper, tmp_path: Path) -> None:
    for number, jasper in enumerate((living, in_passages)):
        jasper.add(NEW)
        jasper.remove(["d3"])
        jasper.save(tmp_path / str(number))
        loaded = Jasper.load(tmp_path / str(number), encoder=jasper.encoder)
        assert loaded.model.documents == jasper.model.documents
        assert_same_vectors(loaded.model.vectors, jasper.model.vectors)
        assert loaded.search(QUESTION, 20) == jasper.search(QUESTION, 20)
        for one in (loaded, jasper):
            one.remove(["new0", "d5"])
            one.add([NEW[0]])
        assert loaded.search(QUESTION, 20) == jasper.search(QUESTION, 20)


@pytest.mark.slow
def test_vectors_of_ones_own_are_added_as_texts_are(living: Jasper, fitted: Jasper) -> None:
    other = Jasper(fitted.model, fitted.encoder)
    vectors = fitted.encoder.encode([document.content for document in NEW], "document")
    living.add(NEW)
    other.add_vectors(NEW, vectors)
    assert_same_vectors(other.model.vectors, living.model.vectors)
    # Of any length.
    again = Jasper(fitted.model, fitted.encoder)
    again.add_vectors(NEW, vectors.astype(np.float64) * 3)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.model.vectors.vectors, living.model.vectors.vectors, atol=1e-6)
    assert again.search(QUESTION, 5)[0].document == living.search(QUESTION, 5)[0].document


@pytest.mark.slow
def test_a_vector_of_ones_own_is_one_passage(in_passages: Jasper) -> None:
    vector = in_passages.encoder.encode([QUESTION], "document")
    in_passages.add_vectors([Document("mine", " as it is ")], vector)
    (hit,) = in_passages.search(QUESTION, 1, "plain")
    assert (hit.document.id, hit.passage) == ("mine", "as it is")
    in_passages.remove(["mine"])
    assert "mine" not in {hit.document.id for hit in in_passages.search(QUESTION, 1000)}


def test_nothing_added_and_nothing_removed(living: Jasper, in_passages: Jasper) -> None:
    for jasper in (living, in_passages):
        model = jasper.model
        jasper.add([])
        jasper.add_vectors([], np.empty((0, 24), dtype=np.float32))
        assert jasper.model is model
        jasper.remove([])
        assert jasper.model.documents == model.documents
        assert_same_vectors(jasper.model.vectors, model.vectors)


class Untouched:
    """An encoder that must not be asked."""

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        raise AssertionError("the encoder was used")


@pytest.mark.parametrize(
    ("documents", "problem", "field"),
    [
        ([Document("d4", "a text")], "document id 'd4' is already in the corpus", "id"),
        ([Document("x", "a text"), Document("x", "another")], "document id 'x' is already in the corpus", "id"),
        ([Document("", "a text")], "an id is empty", "id"),
        ([Document("x", " \n")], "document 'x' is empty", "text"),
    ],
)
def test_documents_that_cannot_be_added_are_refused_before_any_encoding(
    fitted: Jasper, documents: list[Document], problem: str, field: str
) -> None:
    jasper = Jasper(fitted.model, Untouched())
    vectors = np.ones((len(documents), 24), dtype=np.float32)
    with pytest.raises(InputError, match=problem) as by_text:
        jasper.add(documents)
    with pytest.raises(InputError, match=problem) as by_vector:
        jasper.add_vectors(documents, vectors)
    assert by_text.value.field == by_vector.value.field == field
    assert by_text.value.remedy
    assert jasper.model is fitted.model


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((1, 24), r"vectors of shape \[1, 24\] for 2 documents"),
        ((3, 24), r"vectors of shape \[3, 24\] for 2 documents"),
        ((24,), r"vectors of shape \[24\] for 2 documents"),
        ((2, 23), "2 vectors of 23 dimensions for 2 documents"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(living: Jasper, shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        living.add_vectors(NEW, np.ones(shape, dtype=np.float32))
    assert caught.value.field == "vectors"
    assert len(living.model.documents) == 160


def test_vectors_without_direction_are_refused(living: Jasper) -> None:
    vectors = np.ones((2, 24), dtype=np.float32)
    for bad in (0, np.nan, np.inf):
        vectors[1] = bad
        with pytest.raises(InputError, match="row 1 is not finite or all zeros"):
            living.add_vectors(NEW, vectors)


def test_documents_that_cannot_be_removed(living: Jasper) -> None:
    with pytest.raises(InputError, match=r"2 ids are not in the corpus, the first is 'x1'"):
        living.remove(["d0", "x2", "x1"])
    with pytest.raises(InputError, match="no document would be left"):
        living.remove([document.id for document in living.model.documents])
    # A text is a collection of one-letter ids.
    with pytest.raises(InputError, match="one text"):
        living.remove("d0")
    assert len(living.model.documents) == 160


def test_where_there_is_no_text_none_is_needed(fitted: Jasper) -> None:
    model = dataclasses.replace(fitted.model, lexical=None)
    vectors = DocumentVectors(np.eye(1, 24, dtype=np.float32))
    require_new(model, [Document("x", "")])
    grown = with_documents(model, [Document("x", "")], vectors)
    assert (len(grown.documents), grown.lexical) == (161, None)
    assert without_documents(grown, ["d0"]).lexical is None


def test_new_documents_join_the_nearest_topic(living: Jasper, fitted: Jasper) -> None:
    before = fitted.model.topics
    assert before is not None
    living.add(NEW)
    topics = living.model.topics
    assert topics is not None
    vectors = fitted.encoder.encode([document.content for document in NEW], "document")
    np.testing.assert_array_equal(topics.assignment[:160], before.assignment)
    np.testing.assert_array_equal(topics.assignment[160:], (vectors @ before.centroids.T).argmax(axis=1))
    np.testing.assert_array_equal(topics.centroids, before.centroids)
    living.remove(["d0", "d159", "new0"])
    shrunk = living.model.topics
    assert shrunk is not None
    np.testing.assert_array_equal(shrunk.assignment, topics.assignment[[*range(1, 159), 161]])
    assert sum(topic.documents for topic in living.topics) == len(living.model.documents) == 159


def test_a_model_without_topics_stays_without(fitted: Jasper) -> None:
    bare = Jasper(dataclasses.replace(fitted.model, topics=None), fitted.encoder)
    bare.add(NEW)
    bare.remove(["new0"])
    assert bare.model.topics is None


def test_documents_in_passages_join_by_their_mean(in_passages: Jasper) -> None:
    topics = in_passages.model.topics
    assert topics is not None
    in_passages.add(NEW)
    vectors, changed = in_passages.model.vectors, in_passages.model.topics
    assert changed is not None
    for row in (160, 161):
        mean = vectors.vectors[vectors.rows_of(np.array([row]))[0]].mean(axis=0)
        assert changed.assignment[row] == (topics.centroids @ mean).argmax()
