from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from types import ModuleType

import pytest
import torch
from torch import Tensor

from jasper_rag.training.training_pairs import TrainingPairs


@pytest.fixture
def adaptor(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("search_adaptor")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def grades(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)


JUDGED = [[2.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_ranking_loss_is_that_of_all_triples(adaptor: ModuleType, generator: torch.Generator, scale: float) -> None:
    scores, relevance = torch.rand(3, 4, generator=generator), grades(JUDGED)
    total = weight = 0.0
    for i, j, k in product(range(3), range(4), range(4)):
        difference = float(relevance[i, j] - relevance[i, k])
        if difference > 0:
            margin = float(scores[i, k] - scores[i, j])
            total += difference * math.log(1 + math.exp(scale * margin))
            weight += difference
    assert float(adaptor.ranking_loss(scores, relevance, scale)) == pytest.approx(total / weight, rel=1e-5)


def test_nothing_to_rank_is_no_loss(adaptor: ModuleType) -> None:
    assert float(adaptor.ranking_loss(torch.rand(2, 3), torch.ones(2, 3), 1.0)) == 0
    assert float(adaptor.ranking_loss(torch.rand(2, 3), torch.zeros(2, 3), 1.0)) == 0


def test_ranking_loss_falls_as_the_better_document_rises(adaptor: ModuleType) -> None:
    relevance = grades([[1.0, 0.0]])
    low, high = (float(adaptor.ranking_loss(torch.tensor([[s, 0.5]]), relevance, 20.0)) for s in (0.4, 0.6))
    assert high < low


def test_recovery_is_the_mean_distance(adaptor: ModuleType) -> None:
    assert float(adaptor.recovery_loss(torch.zeros(2, 3), torch.tensor([[1.0, -2, 0], [0, 0, 3]]))) == 3.0


def test_prediction_loss_is_that_of_all_pairs(adaptor: ModuleType, generator: torch.Generator) -> None:
    questions, predicted = torch.rand(3, 5, generator=generator), torch.rand(4, 5, generator=generator)
    relevance = grades(JUDGED)
    total = sum(
        float(relevance[i, j] * (questions[i] - predicted[j]).abs().sum()) for i, j in product(range(3), range(4))
    )
    found = float(adaptor.prediction_loss(questions, predicted, relevance))
    assert found == pytest.approx(total / float(relevance.sum()), rel=1e-5)
    assert float(adaptor.prediction_loss(questions, predicted, torch.zeros(3, 4))) == 0


@pytest.fixture
def pairs(generator: torch.Generator) -> TrainingPairs:
    """Eight questions of eight sources, one of them graded; the question is the source with its halves exchanged."""
    sources = torch.nn.functional.normalize(torch.randn(8, 6, generator=generator), dim=1)
    rows = torch.arange(8)
    pair = torch.cat([torch.stack([rows, rows], dim=1), torch.tensor([[0, 5]])])
    known = torch.full((8, 2), -1)
    known[:, 0] = rows
    known[0, 1] = 5
    known[7, 1] = 2  # by another question of the same words
    relevance = torch.ones(9)
    relevance[8] = 0.5
    return TrainingPairs(sources.roll(3, dims=1), sources, pair, known, relevance)


def test_relevance_of_a_batch(adaptor: ModuleType, pairs: TrainingPairs) -> None:
    questions, sources = torch.tensor([0, 7, 3]), torch.tensor([5, 0, 2, 7])
    found = adaptor.batch_relevance(pairs, adaptor.known_relevance(pairs), questions, sources)
    assert found.tolist() == [[0.5, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_it_starts_at_the_plain_embeddings(adaptor: ModuleType) -> None:
    given = torch.rand(4, 6)
    assert torch.equal(adaptor.ResidualAdapter(6)(given), given)


def ranked_first(pairs: TrainingPairs) -> Callable[[torch.nn.Module], float]:
    def share(adapter: torch.nn.Module) -> float:
        with torch.no_grad():
            adapted, answers = (torch.nn.functional.normalize(adapter(x)) for x in (pairs.questions, pairs.sources))
            return float((adapted @ answers.T).argmax(dim=1).eq(torch.arange(8)).float().mean())

    return share


@pytest.mark.slow
def test_training_finds_what_the_embeddings_do_not(
    adaptor: ModuleType, pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptor, "BATCH_SIZE", 8)
    monkeypatch.setattr(adaptor, "NEGATIVES", 4)
    measure = ranked_first(pairs)
    run = adaptor.AdaptorRun(0.001, 0.001, 20.0, learning_rate=0.01)
    before = torch.random.get_rng_state()
    trained = adaptor.train_adaptor(pairs, measure, run, 0, steps=200)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert max(trained.curve) > trained.curve[0] + 0.3
    assert measure(trained.adapter) == max(trained.curve)
    again = adaptor.train_adaptor(pairs, measure, run, 0, steps=200)
    assert again.curve == trained.curve
    assert trained.cpu_seconds > 0
    assert trained.wall_seconds > 0


def test_training_stops_and_falls_back(
    adaptor: ModuleType, pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptor, "EVERY", 2)
    trained = adaptor.train_adaptor(pairs, lambda _: 0.5, adaptor.AdaptorRun(0, 0, 1.0), 0)
    assert trained.curve == (0.5,) * (1 + adaptor.PATIENCE)
    assert torch.equal(trained.adapter(pairs.questions), pairs.questions)


def test_dev_picks_from_the_grid(adaptor: ModuleType, pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        adaptor,
        "train_adaptor",
        lambda pairs, ndcg, run, seed: adaptor.TrainedAdaptor(run, None, (0.1, run.scale), 1.0, 1.0),
    )
    grid = [adaptor.AdaptorRun(0, 0, scale) for scale in (0.3, 0.7, 0.7)]
    best, trained = adaptor.tune(pairs, ranked_first(pairs), 0, grid)
    assert [one.run for one in trained] == grid
    assert best is trained[1]
