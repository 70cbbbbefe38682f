from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import Guard, unit
from jasper_rag.models.predictors import linear_paths
from jasper_rag.models.topics import steering_towards
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.serving.steering_choice import STRONGEST, Steer, direction_of, parse_steer
from jasper_rag.training.predictor_training import predict

QUESTION = "car or film"


class Refusing:
    """An encoder that must not be asked."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        raise AssertionError("the encoder was used")


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        ("topic:Git, commit", "topic", "Git, commit"),
        (" Topic : git ", "topic", "git"),
        ("topic:#3", "topic", "#3"),
        ("#12", "topic", "#12"),
        ("text:how to: rebase", "text", "how to: rebase"),
        ("keywords: git, branch ,merge,, git", "keywords", "git, branch ,merge,, git"),
        ("document:a:1, b", "document", "a:1, b"),
        ("text:about git", "text", "git"),
        ("text:not enough memory, nothing of it", "text", "not enough memory, nothing of it"),
    ],
)
def test_steering_is_read(given: str, kind: str, value: str) -> None:
    assert parse_steer(given) == Steer(kind, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", "git", "topic:", "text: ", "cluster:3", ":git", "keywords: , ,", "document:"])
def test_what_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="cannot steer to") as caught:
        parse_steer(given)
    assert "topic:NAME" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "about", "apart"),
    [
        ("text:about git, not svn", "git", ("svn",)),
        ("text:git branches but not pull requests", "git branches", ("pull requests",)),
        ("text:About git not about svn, NOT about hg , but not cvs", "git", ("svn", "hg", "cvs")),
        ("text:the knot, nothing else", "the knot, nothing else", ()),
    ],
)
def test_what_words_are_not_about(given: str, about: str, apart: tuple[str, ...]) -> None:
    assert parse_steer(given) == Steer("text", about, apart)


@pytest.mark.parametrize(
    "given", ["text:not about svn", "text:, not svn", "text:git, not svn, not ,", "text:but not x"]
)
def test_what_is_only_denied_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="cannot steer to") as caught:
        parse_steer(given)
    assert "Say what it is about" in caught.value.remedy


@pytest.mark.parametrize("page", ["README.md", "docs/your_data.md"])
def test_documented_commands_are_read(repository: Path, page: str) -> None:
    lines = (repository / page).read_text(encoding="utf-8").splitlines()
    words = [
        shlex.split(line.lstrip("$ "), comments=True) for line in lines if " --steer " in line and "jasper " in line
    ]
    given = [line[place + 1] for line in words for place, word in enumerate(line) if word == "--steer"]
    assert given
    assert all(parse_steer(steer).value for steer in given)


def test_keywords_are_cut_at_commas_and_count_once() -> None:
    assert parse_steer("keywords: git, branch ,merge,, git").keywords == ("git", "branch", "merge")


def steered(jasper: Jasper, questions: Vectors, centroid: Vectors) -> Vectors:
    return unit(predict(jasper.model.predictor, questions, steering_towards(questions, centroid)))


PLACE = "document:d17"


def test_a_steered_search_is_ungated_and_beside_bm25(fitted: Jasper) -> None:
    model = fitted.model
    closed = Jasper(dataclasses.replace(model, guard=Guard(0.0), openness=1.0), fitted.encoder)
    questions = fitted.encoder.encode([QUESTION], "query")
    vectors = steered(fitted, questions, model.vectors.vectors[17])
    np.testing.assert_allclose(closed.transform(questions, steer=PLACE), vectors, atol=1e-6)
    expected = HybridRetriever(model.vectors, model.lexical, model.weights.jasper).hybrid(vectors, [QUESTION], 7)
    for hits in (closed.search(QUESTION, 7, steer=PLACE), closed.search_many([QUESTION] * 2, 7, steer=PLACE)[1]):
        assert [hit.document.id for hit in hits] == [model.documents[row].id for row in expected[1][0]]
        assert [hit.score for hit in hits] == pytest.approx(expected[0][0].tolist(), abs=1e-5)
    dense = fitted.search(QUESTION, 7, "dense", steer=PLACE)
    assert [hit.document.id for hit in dense] == [
        model.documents[row].id for row in model.vectors.top_k(vectors, 7)[1][0]
    ]


def test_a_topic_moves_the_vector(fitted: Jasper) -> None:
    assert fitted.model.topics is not None
    questions = fitted.encoder.encode([QUESTION], "query")
    expected = steered(fitted, questions, fitted.model.topics.centroids[2])
    closed = Jasper(dataclasses.replace(fitted.model, guard=Guard(0.0)), fitted.encoder)
    np.testing.assert_array_equal(closed.transform(questions, steer="#3"), expected)


def test_a_name_and_its_number_are_one_topic(fitted: Jasper) -> None:
    topic = fitted.topics[4]
    by_number = fitted.search(QUESTION, steer="#5")
    assert topic.number == 5
    assert fitted.search(QUESTION, steer=f"topic:{topic.name.upper()}") == by_number
    assert by_number != fitted.search(QUESTION)


def test_words_of_ones_own(fitted: Jasper) -> None:
    questions = fitted.encoder.encode([QUESTION], "query")
    centroid = fitted.encoder.encode(["ocean and garden"], "document")[0]
    moved = fitted.transform(questions, steer="text:ocean and garden")
    np.testing.assert_allclose(moved, steered(fitted, questions, centroid), atol=1e-6)


def test_keywords_weigh_the_same_however_long(fitted: Jasper) -> None:
    questions = fitted.encoder.encode([QUESTION], "query")
    one, other = fitted.encoder.encode(["ocean", "garden and river and stone"], "document")
    moved = fitted.transform(questions, steer="keywords:ocean, garden and river and stone, ocean")
    np.testing.assert_allclose(moved, steered(fitted, questions, unit((one + other)[np.newaxis])[0]), atol=1e-6)


def test_what_it_is_not_about_is_taken_away(fitted: Jasper) -> None:
    questions = fitted.encoder.encode([QUESTION], "query")
    about, *apart = fitted.encoder.encode(["ocean", "garden", "river"], "document")
    moved = fitted.transform(questions, steer="text:about ocean, not garden, not river")
    centroid = unit((about - 0.5 * (apart[0] + apart[1]) / 2)[np.newaxis])[0]
    np.testing.assert_allclose(moved, steered(fitted, questions, centroid), atol=1e-6)


def test_an_example_document(fitted: Jasper) -> None:
    deaf = Jasper(fitted.model, Refusing())
    questions = fitted.encoder.encode([QUESTION], "query")
    expected = steered(fitted, questions, fitted.model.vectors.vectors[17])
    np.testing.assert_allclose(deaf.transform(questions, steer="document:d17"), expected, atol=1e-6)


def test_an_example_document_of_passages_is_their_mean(fitted: Jasper) -> None:
    """Two passages per document: each beside the one of the next document."""
    model = fitted.model
    rows = model.vectors.vectors
    passages = Passages(np.arange(0, 320, 2), np.zeros((320, 2), dtype=np.int64))
    cut = DocumentVectors(np.stack([rows, np.roll(rows, -1, axis=0)], axis=1).reshape(320, -1), passages)
    jasper = Jasper(dataclasses.replace(model, vectors=cut), Refusing())
    questions = fitted.encoder.encode([QUESTION], "query")
    centroid = unit((rows[17] + rows[18])[np.newaxis])[0]
    expected = steered(fitted, questions, centroid)
    np.testing.assert_allclose(jasper.transform(questions, steer="document:d17"), expected, atol=1e-6)


@pytest.mark.parametrize(("wanted", "nearest"), [("D15", "'d15', 'd150', 'd151'"), ("zzzz", "'d0', 'd1', 'd2'")])
def test_an_unknown_document_names_the_nearest(fitted: Jasper, wanted: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"there is no document '{wanted}'") as caught:
        Jasper(fitted.model, Refusing()).search(QUESTION, steer=f"document:{wanted}")
    assert nearest in caught.value.remedy


def test_of_several_places_the_mean_is_followed(fitted: Jasper) -> None:
    assert fitted.model.topics is not None
    questions = fitted.encoder.encode([QUESTION], "query")
    centroid = fitted.model.topics.centroids[2] + fitted.model.vectors.vectors[17]
    moved = fitted.transform(questions, steer=["#3", "document:d17"])
    np.testing.assert_allclose(moved, steered(fitted, questions, unit(centroid[np.newaxis])[0]), atol=1e-6)
    np.testing.assert_array_equal(fitted.transform(questions, steer=["#3"]), fitted.transform(questions, steer="#3"))


def test_directions_that_cancel_out_are_refused(fitted: Jasper) -> None:
    class Opposed:
        def encode(self, texts: Sequence[str], role: Role) -> Vectors:
            return np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)[: len(texts)]

    with pytest.raises(InputError, match="cancel out"):
        direction_of(fitted.model, Steer("keywords", "one, other"), Opposed)


@pytest.mark.parametrize("strength", [0.25, 1.0, 3.0])
def test_strength_scales_the_steering(fitted: Jasper, strength: float) -> None:
    model = fitted.model
    paths = linear_paths(model.predictor)
    assert model.topics is not None
    assert paths is not None
    questions = fitted.encoder.encode([QUESTION, "road and sofa"], "query")
    q_map, s_map = (each.weight.detach().numpy() for each in (paths.question_map, paths.steering_map))
    difference = model.topics.centroids[2] - questions
    steering = difference / np.linalg.norm(difference, axis=1, keepdims=True)
    expected = unit(questions + questions @ q_map.T + strength * steering @ s_map.T)
    np.testing.assert_allclose(fitted.transform(questions, steer="#3", strength=strength), expected, atol=1e-6)


@pytest.mark.parametrize("strength", [0.25, 1.0, 3.0])
def test_a_search_follows_the_scaled_steering(fitted: Jasper, strength: float) -> None:
    model = fitted.model
    questions = fitted.encoder.encode([QUESTION, "road and sofa"], "query")
    expected = fitted.transform(questions, steer=PLACE, strength=strength)
    hits = fitted.search_many([QUESTION, "road and sofa"], 5, "dense", steer=PLACE, strength=strength)
    rows = model.vectors.top_k(expected, 5)[1]
    assert [[hit.document.id for hit in found] for found in hits] == [
        [model.documents[row].id for row in found] for found in rows
    ]


def test_without_strength_it_is_the_search_without_steering(fitted: Jasper) -> None:
    """Blend and gates hold again: a half-closed guard shows it."""
    half = Jasper(dataclasses.replace(fitted.model, guard=Guard(0.5)), fitted.encoder)
    questions = fitted.encoder.encode([QUESTION], "query")
    for gated in (True, False):
        still = half.transform(questions, gated=gated, steer="text:ocean", strength=0)
        np.testing.assert_array_equal(still, half.transform(questions, gated=gated))
    assert half.search(QUESTION, steer="#3", strength=0) == half.search(QUESTION)
    with pytest.raises(InputError, match="there is no topic"):
        half.search(QUESTION, steer="#99", strength=0)


@pytest.mark.parametrize("strength", [-0.1, STRONGEST + 0.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(fitted: Jasper, strength: float) -> None:
    deaf = Jasper(fitted.model, Refusing())
    questions = np.eye(1, 24, dtype=np.float32)
    for ask in (
        lambda: deaf.search(QUESTION, steer="#1", strength=strength),
        lambda: deaf.search_vectors(questions, steer="#1", strength=strength),
        lambda: deaf.transform(questions, steer="#1", strength=strength),
    ):
        with pytest.raises(InputError, match="a strength of") as caught:
            ask()
        assert caught.value.field == "strength"


def test_a_strength_of_nothing_is_refused(fitted: Jasper) -> None:
    with pytest.raises(InputError, match="nothing to steer to"):
        Jasper(fitted.model, Refusing()).search(QUESTION, strength=0.5)
    with pytest.raises(InputError, match="nothing to steer to"):
        Jasper(fitted.model, Refusing()).search(QUESTION, steer=[])


def test_bad_choices_are_found_before_the_encoder_is_asked(fitted: Jasper) -> None:
    deaf = Jasper(fitted.model, Refusing())
    for steer in ("#99", "topic:nothing like it", "what", "document:99", ["#1", "#99"]):
        with pytest.raises(InputError) as caught:
            deaf.search(QUESTION, steer=steer)
        assert caught.value.field == "steer"


def test_the_plain_encoder_cannot_be_steered(fitted: Jasper) -> None:
    with pytest.raises(InputError, match="cannot be steered"):
        fitted.search(QUESTION, ranker="plain", steer="#1")


def test_a_model_that_does_not_follow_says_so(
    fitted: Jasper, word_encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitted.record is not None
    unled = dataclasses.replace(fitted.model, predictor=fitted.record.candidates.trained.model)
    with caplog.at_level(logging.WARNING, logger="jasper_rag"):
        Jasper(unled, word_encoder).search(QUESTION, steer="text:ocean")
    assert "steering does nothing here" in caplog.text
