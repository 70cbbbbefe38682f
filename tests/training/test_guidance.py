from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from jasper_rag.build.clustering import spherical_k_means
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.metrics.ranking import evaluate
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.topics import Topics, answer_topics, steering_to_topics
from jasper_rag.training.guidance import GuidedRetrieval, TrainedGuidance, train_guidance
from jasper_rag.training.predictor_training import predict
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.training_pairs import pair_documents, training_pairs

QUICK = PredictorTrainingConfig(
    batch_size=40, steps=60, learning_rate_start=3e-3, learning_rate_end=3e-2, temperature=0.05
)


@pytest.fixture(scope="module")
def topics(turned: EmbeddedSet) -> Topics:
    found = spherical_k_means(turned.vectors.vectors, 8)
    names = tuple(f"topic {number}" for number in range(8))
    return Topics(names, ((),) * 8, found.centroids, found.assignment)


def predictor(dim: int, **paths: bool) -> JASPERPredictor:
    """W of small numbers."""
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=dim, **({"mlp": False} | paths)))
    if model.config.linear_path:
        generator = torch.Generator().manual_seed(0)
        model.question_map.weight.data = 0.01 * torch.randn(dim, dim, generator=generator)
    return model.eval()


def train(
    turned: EmbeddedSet, topics: Topics, model: JASPERPredictor, config: PredictorTrainingConfig = QUICK
) -> TrainedGuidance:
    pairs, of_pairs = training_pairs(turned), topics.assignment[pair_documents(turned)]
    return train_guidance(model, pairs, of_pairs, topics, turned.splits["dev"], turned.vectors, config, 0)


@pytest.fixture(scope="module")
def guided(turned: EmbeddedSet, topics: Topics) -> tuple[JASPERPredictor, TrainedGuidance]:
    model = predictor(16)
    return model, train(turned, topics, model)


def test_steering_helps_and_is_measured(
    turned: EmbeddedSet, topics: Topics, guided: tuple[JASPERPredictor, TrainedGuidance]
) -> None:
    model, found = guided
    dev = turned.splits["dev"]
    right = topics.assignment[dev.judgements.documents]
    steering = steering_to_topics(dev.vectors, right, topics.centroids)

    def ndcg(predictions: np.ndarray) -> float:
        ranked = np.argsort(-predictions @ turned.vectors.vectors.T, axis=1)[:, :10]
        return evaluate(ranked, dev.judgements, {"ndcg": (10,)})["ndcg@10"]

    assert found.steers
    assert found.dev_ndcg_zero == pytest.approx(ndcg(predict(model, dev.vectors)))
    assert found.dev_ndcg_guided == pytest.approx(ndcg(predict(found.model, dev.vectors, steering)))
    assert found.dev_ndcg_guided > found.dev_ndcg_zero + 0.1
    assert found.cpu_seconds > 0


def test_without_a_topic_the_predictor_is_the_same_bit_for_bit(
    turned: EmbeddedSet, guided: tuple[JASPERPredictor, TrainedGuidance]
) -> None:
    model, found = guided
    assert not model.steering_map.weight.any()
    assert torch.equal(found.model.state_dict()["question_map.weight"], model.question_map.weight)
    questions = turned.splits["dev"].vectors
    np.testing.assert_array_equal(predict(found.model, questions), predict(model, questions))
    assert all(parameter.requires_grad for parameter in found.model.parameters())
    assert not found.model.training


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(
    turned: EmbeddedSet, topics: Topics, guided: tuple[JASPERPredictor, TrainedGuidance]
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = train(turned, topics, guided[0])
    assert torch.equal(*(one.state_dict()["steering_map.weight"] for one in (again.model, guided[1].model)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_where_dev_does_not_gain_nothing_is_steered(turned: EmbeddedSet, topics: Topics) -> None:
    answered = turned.splits["dev"]
    perfect = dataclasses.replace(answered, vectors=turned.vectors.vectors[answered.judgements.documents])
    turned_back = dataclasses.replace(turned, splits={**turned.splits, "dev": perfect})
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=16, mlp=False)).eval()
    found = train(turned_back, topics, model, QUICK.model_copy(update={"steps": 20}))
    assert not found.steers
    assert found.dev_ndcg_guided == found.dev_ndcg_zero == 1.0


def test_a_question_without_an_answer_in_the_corpus_is_not_steered(turned: EmbeddedSet, topics: Topics) -> None:
    dev = turned.splits["dev"]
    documents = dev.judgements.documents.copy()
    documents[0] = -2
    queries = dataclasses.replace(dev, judgements=dataclasses.replace(dev.judgements, documents=documents))
    assert answer_topics(queries.judgements, topics.assignment)[0] == -1
    seen: list[torch.Tensor] = []

    def look(questions: torch.Tensor, steering: torch.Tensor | None) -> torch.Tensor:
        assert steering is not None
        seen.append(steering)
        return questions

    found = GuidedRetrieval(queries, turned.vectors, topics)(look)
    assert list(found) == ["ndcg@10"]
    assert not seen[0][0].any()
    np.testing.assert_allclose(seen[0][1:].norm(dim=1).numpy(), 1, rtol=1e-5)


def test_pairs_know_their_documents(turned: EmbeddedSet) -> None:
    pairs, rows = training_pairs(turned), pair_documents(turned)
    np.testing.assert_array_equal(pairs.sources[pairs.pairs[:, 1]].numpy(), turned.vectors.vectors[rows])


@pytest.mark.slow
def test_programming_errors(turned: EmbeddedSet, topics: Topics) -> None:
    with pytest.raises(ValueError, match="no steering map"):
        train(turned, topics, predictor(16, linear_path=False, mlp=True))
    pairs = training_pairs(turned)
    with pytest.raises(ValueError, match="3 topics for 120 pairs"):
        train_guidance(
            predictor(16), pairs, np.zeros(3, np.int64), topics, turned.splits["dev"], turned.vectors, QUICK, 0
        )
    with pytest.raises(ValueError, match="as they are"):
        GuidedRetrieval(turned.splits["dev"], turned.vectors, topics)(lambda q, _: q, lambda sources: sources)
