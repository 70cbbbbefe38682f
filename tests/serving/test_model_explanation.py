"""Explanations of searches: true to the search, part by part, and to what happens when a topic is taken out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.errors import InputError
from jasper_rag.explain.search_explanation import PARTS, SearchExplanation
from jasper_rag.jasper import Jasper, Ranker
from jasper_rag.models.guard import Guard
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.retrieval.fusion import weighted
from jasper_rag.retrieval.topic_search import route
from jasper_rag.text.records import Document

QUESTION = "automobile or physician or road?"
WAYS: list[dict[str, Any]] = [
    {},
    {"ranker": "dense"},
    {"ranker": "plain"},
    {"steer": "#3"},
    {"steer": "#3", "ranker": "dense"},
    {"steer": "text:stone and ship"},
    {"steer": "text:stone and ship", "ranker": "dense", "strength": 2.0},
    {"steer": ["#2", "keywords:road, street"]},
]


def sums(found: SearchExplanation) -> list[float]:
    return [sum(hit.parts.values()) for hit in found.hits]


def with_model(jasper: Jasper, **changes: Any) -> Jasper:
    return Jasper(dataclasses.replace(jasper.model, **changes), jasper.encoder)


@pytest.fixture(scope="module")
def half(fitted: Jasper) -> Jasper:
    """A model whose guard blends, over documents of which every second is cut into two passages."""
    model = fitted.model
    counts = np.array([1 + row % 2 for row in range(len(model.documents))])
    starts = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(0).standard_normal((len(rows), 24)).astype(np.float32)
    moved = model.vectors.vectors[rows] + 0.1 * noise
    spans = [[place * 5, place * 5 + 5] for count in counts for place in range(count)]
    passages = Passages(starts.astype(np.int64), np.array(spans, dtype=np.int64))
    vectors = DocumentVectors(moved / np.linalg.norm(moved, axis=1, keepdims=True), passages)
    return with_model(fitted, vectors=vectors, guard=Guard(0.4, model.guard.gate))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_parts_of_a_score_sum_to_it(fitted: Jasper, half: Jasper, way: dict[str, Any]) -> None:
    for jasper in (fitted, half):
        found, hits = jasper.explain(QUESTION, 7, **way), jasper.search(QUESTION, 7, **way)
        assert [(hit.rank, hit.document, hit.score, hit.passage) for hit in found.hits] == [
            (hit.rank, hit.document, hit.score, hit.passage) for hit in hits
        ]
        assert all(tuple(hit.parts) == PARTS for hit in found.hits)
        np.testing.assert_allclose(sums(found), [hit.score for hit in hits], atol=1e-5)


@pytest.mark.slow
def test_a_predictor_with_subspaces_brings_its_own_parts(fitted: Jasper) -> None:
    topics = fitted.model.topics
    assert topics is not None
    torch.manual_seed(0)
    settings = {"embedding_dim": 24, "num_subspaces": len(topics), "hidden_dim": 8}
    predictor = SubspacePredictor(settings, torch.from_numpy(topics.centroids)).eval()
    jasper = with_model(fitted, predictor=predictor, guard=Guard(0.7))
    asked = torch.from_numpy(jasper.encoder.encode([QUESTION], "query"))
    for way in WAYS:
        found = jasper.explain(QUESTION, 5, **way)
        np.testing.assert_allclose(sums(found), [hit.score for hit in found.hits], atol=1e-5)
    found = jasper.explain(QUESTION, 5, "dense", steer="text:stone")
    document = fitted.model.vectors.vectors[fitted.model.documents.index(found.hits[0].document)]
    length = float(np.linalg.norm(found.prediction))
    coarse = predictor.parts(asked).coarse[0].numpy() @ document / length
    assert found.hits[0].parts["coarse"] == pytest.approx(float(coarse), abs=1e-5)


def test_parts_are_what_they_are_called(fitted: Jasper) -> None:
    topics = fitted.model.topics
    assert topics is not None
    dense = fitted.explain(QUESTION, 5, "dense")
    vector = fitted.transform(fitted.encoder.encode([QUESTION], "query"))
    weights = route(vector, fitted.model.vectors, topics, fitted.model.routing.router)[0]
    rows = [fitted.model.documents.index(hit.document) for hit in dense.hits]
    guard, asked = fitted.model.serving_guard, fitted.encoder.encode([QUESTION], "query")
    share = guard.alpha * (1.0 if guard.gate is None else float(guard.gate.openness(asked)[0]))
    assert dense.opened == pytest.approx(share)
    assert all(hit.parts["words"] == hit.parts["level"] == hit.parts["topic_bonus"] == 0 for hit in dense.hits)
    assert all(hit.parts["steering"] == 0 for hit in dense.hits)
    ratio = fitted.model.vectors.vectors[rows] @ (weights @ topics.centroids)
    np.testing.assert_allclose(
        np.array([hit.parts["coarse"] for hit in dense.hits]) / ratio,
        dense.hits[0].parts["coarse"] / ratio[0],
        rtol=1e-4,
    )
    preferred = fitted.explain(QUESTION, 5, steer="#3")
    inside = [topics.assignment[fitted.model.documents.index(hit.document)] == 2 for hit in preferred.hits]
    bonus = [hit.parts["topic_bonus"] for hit in preferred.hits]
    assert bonus == pytest.approx([fitted.model.routing.bonus * each for each in inside])
    assert "preferred topic brought in" in preferred.actionable_signal
    plain = fitted.explain(QUESTION, 5, "plain")
    assert plain.opened == 0
    assert all(hit.parts["fine"] == 0 for hit in plain.hits)


def test_topics_are_the_routers(fitted: Jasper) -> None:
    found = fitted.explain(QUESTION)
    offered = fitted.offered_topics(QUESTION, 100)
    assert [each.row + 1 for each in found.topics] == [topic.number for topic, _ in offered]
    assert [each.probability for each in found.topics] == pytest.approx([weight for _, weight in offered])
    shares = np.array([each.probability for each in found.topics])
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert found.entropy == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-6)
    assert (found.primary_subspace, found.confidence) == (found.topics[0].name, found.topics[0].probability)
    assert found.atypicality is not None
    assert 0 <= (found.atypicality_quantile or 0.0) <= 1


def test_steering_is_told(fitted: Jasper) -> None:
    still, moved = fitted.explain(QUESTION), fitted.explain(QUESTION, steer="text:stone and ship")
    assert (still.steering_shift, still.steering_influence) == (0, 0)
    assert moved.steering_shift > 0
    assert moved.steering_influence >= 0
    assert moved.opened == 1
    assert (moved.atypicality, moved.atypicality_quantile) == (still.atypicality, still.atypicality_quantile)
    assert "teering" in moved.actionable_signal
    none = fitted.explain(QUESTION, steer="text:stone and ship", strength=0)
    assert none == still


@pytest.mark.parametrize("ranker", ["dense", "hybrid"])
def test_the_counterfactual_is_a_search_without_the_topic(fitted: Jasper, ranker: Ranker) -> None:
    model = fitted.model
    assert model.topics is not None
    assert model.lexical is not None
    changed = False
    for question in ("automobile or physician", "movie or rock or forest", "woods or couch", "trip or mistake"):
        found = fitted.explain(question, 4, ranker)
        vector = fitted.transform(fitted.encoder.encode([question], "query"))
        best = found.topics[0]
        without = (vector - best.probability * model.topics.centroids[best.row]) @ model.vectors.vectors.T
        if ranker == "hybrid":
            without = weighted(without, model.lexical.scores([question]), model.weights.over(model.openness).jasper)
        then = [model.documents[row].id for row in np.argsort(-without[0], kind="stable")[:4]]
        now = [hit.document.id for hit in found.hits]
        assert found.counterfactual is not None
        assert found.counterfactual.topic == best.name
        left, come = (
            [(rank, document.id) for rank, document in documents]
            for documents in (found.counterfactual.leave, found.counterfactual.enter)
        )
        assert left == [(rank, each) for rank, each in enumerate(now, start=1) if each not in then]
        assert come == [(rank, each) for rank, each in enumerate(then, start=1) if each not in now]
        changed |= bool(left)
    assert changed


def test_known_questions_come_with_their_documents(fitted: Jasper) -> None:
    pairs = fitted.model.known_pairs
    assert pairs is not None
    found = fitted.explain(pairs.questions[7].text).similar_known_pairs
    assert (found[0].row, found[0].question_id) == (7, pairs.questions[7].id)
    assert [document.id for document in found[0].documents] == list(pairs.sources[7])
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)
    assert len(found) == 5
    alone = Jasper(fitted.model, fitted.encoder)
    alone.remove(pairs.sources[7])
    assert alone.explain(pairs.questions[7].text).similar_known_pairs[0].documents == ()
    told = alone.explain(pairs.questions[7].text).to_dict()["similar_known_pairs"][0]
    assert (told["source"], told["source_id"]) == ("", "")


def test_plain_values(fitted: Jasper) -> None:
    found = fitted.explain(QUESTION, 3)
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    documented = {"primary_subspace", "primary_subspace_id", "confidence", "routing_distribution", "routing_entropy"}
    documented |= {"steering_influence", "steering_shift", "atypicality", "atypicality_quantile"}
    documented |= {"similar_known_pairs", "actionable_signal"}
    assert set(told) == documented | {"question", "ranker", "opened", "hits", "counterfactual"}
    assert list(told["routing_distribution"]) == list(fitted.model.topics.names)  # type: ignore[union-attr]
    assert told["routing_distribution"][told["primary_subspace"]] == told["confidence"]
    assert set(told["similar_known_pairs"][0]) == {
        "similarity", "index", "question", "question_id", "source", "source_id",
    }  # fmt: skip
    assert set(told["hits"][0]) == {"rank", "score", "id", "title", "parts"}
    assert set(told["counterfactual"]) == {"without", "leave", "enter"}
    whole = found.to_dict(vectors=True)
    assert set(whole) - set(told) == {"predicted_source_emb"}
    np.testing.assert_allclose(whole["predicted_source_emb"], found.prediction, atol=1e-6)


def test_a_model_without_topics_or_known_questions(fitted: Jasper) -> None:
    bare = with_model(fitted, topics=None, known_pairs=None)
    found = bare.explain(QUESTION, 4)
    assert [hit.document for hit in found.hits] == [hit.document for hit in bare.search(QUESTION, 4)]
    np.testing.assert_allclose(sums(found), [hit.score for hit in found.hits], atol=1e-5)
    assert (found.topics, found.counterfactual, found.similar_known_pairs) == ((), None, ())
    assert (found.atypicality, found.primary_subspace, found.confidence) == (None, None, None)
    assert "no topics" in found.actionable_signal
    assert json.dumps(found.to_dict())
    old = with_model(fitted, routing=dataclasses.replace(fitted.model.routing, usual=np.zeros(0, dtype=np.float32)))
    assert old.explain(QUESTION).atypicality_quantile is None


def test_documents_may_come_and_go(fitted: Jasper, tmp_path: Path) -> None:
    jasper = Jasper(fitted.model, fitted.encoder)
    jasper.add([Document("new", "car and doctor and road")], store=EmbeddingStore(tmp_path))
    found = jasper.explain(QUESTION, 500)
    assert "new" in [hit.document.id for hit in found.hits]
    np.testing.assert_allclose(sums(found), [hit.score for hit in found.hits], atol=1e-5)


@pytest.mark.parametrize(
    ("question", "way", "field"),
    [
        (" ", {}, "question"),
        (QUESTION, {"k": 0}, "k"),
        (QUESTION, {"steer": "#99"}, "steer"),
        (QUESTION, {"strength": 2.0}, "strength"),
        (QUESTION, {"ranker": "plain", "steer": "#1"}, "steer"),
    ],
)
def test_what_cannot_be_explained(fitted: Jasper, question: str, way: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        fitted.explain(question, **way)
    assert caught.value.field == field
