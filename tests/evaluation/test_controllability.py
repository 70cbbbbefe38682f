from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.evaluation.controllability import STRENGTHS, controllability
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import unit
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.topics import Topics, answer_topics


@pytest.fixture
def topics(worded: EmbeddedSet) -> Topics:
    """Four topics, each document in that of the nearest centroid."""
    centroids = unit(np.random.default_rng(3).standard_normal((4, 8)).astype(np.float32))
    empty = Topics(tuple("abcd"), ((),) * 4, centroids, np.empty(0, dtype=np.int64))
    return empty.followed_by(worded.vectors.vectors)


@pytest.fixture
def predictor() -> JASPERPredictor:
    """p = q + s."""
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=8, mlp=False)).eval()
    model.steering_map.weight.data = torch.eye(8)
    return model


def test_shares_against_one_question_at_a_time(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    queries, documents = worded.splits["test"], worded.vectors
    right = answer_topics(queries.judgements, topics.assignment)
    other = (right + np.random.default_rng(5).integers(1, 4, size=len(right))) % 4
    assert (other != right).all()
    found = controllability(queries, documents, predictor, topics, strengths=(0, 1.5), seed=5)
    assert (found.topics, found.questions) == (4, len(queries))
    for strength, figures in found.strengths.items():
        for chosen, share in ((right, figures.right_inside), (other, figures.other_inside)):
            inside = []
            for question, topic in zip(queries.vectors, chosen, strict=True):
                difference = topics.centroids[topic] - question
                vector = question + strength * difference / np.linalg.norm(difference)
                ranked = np.argsort(-(documents.vectors @ vector))[:10]
                inside.append(np.mean(topics.assignment[ranked] == topic))
            assert share == pytest.approx(np.mean(inside))


def test_more_strength_more_of_the_topic(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    found = controllability(worded.splits["test"], worded.vectors, predictor, topics).strengths
    assert tuple(found) == STRENGTHS
    other = [figures.other_inside for figures in found.values()]
    assert other == sorted(other)
    assert other[0] < other[-1]
    assert found[2.0].other_ndcg < found[0.0].other_ndcg == found[0.0].right_ndcg


def test_a_predictor_that_cannot_be_steered_stays_where_it_is(worded: EmbeddedSet, topics: Topics) -> None:
    identity = JASPERPredictor(JASPERPredictorConfig(embedding_dim=8, mlp=False))
    found = controllability(worded.splits["test"], worded.vectors, identity, topics).strengths
    assert all(figures == found[0.0] for figures in found.values())


def test_questions_without_an_answer_in_the_corpus_are_left_out(
    worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor
) -> None:
    queries = worded.splits["test"]
    judged = queries.judgements
    documents = judged.documents.copy()
    documents[judged.indptr[0] : judged.indptr[1]] = -1
    missing = replace(queries, judgements=Judgements(judged.indptr, documents, judged.grades))
    found = controllability(missing, worded.vectors, predictor, topics)
    assert found.questions == len(queries) - 1
    nobody = replace(queries, judgements=Judgements(judged.indptr, np.full_like(judged.documents, -1), judged.grades))
    with pytest.raises(ValueError, match="got 4 and 0"):
        controllability(nobody, worded.vectors, predictor, topics)


def test_one_topic_leaves_no_other(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    one = Topics(("all",), ((),), topics.centroids[:1], np.zeros_like(topics.assignment))
    with pytest.raises(ValueError, match="need two topics"):
        controllability(worded.splits["test"], worded.vectors, predictor, one)


def test_metrics_are_plain_values(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    found = controllability(worded.splits["test"], worded.vectors, predictor, topics).to_metrics()
    assert list(found["strengths"]) == ["0", "0.5", "1", "2"]
    assert set(found["strengths"]["1"]) == {"inside_right@10", "inside_other@10", "ndcg@10_right", "ndcg@10_other"}
    assert json.loads(json.dumps(found)) == found
