from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jasper_rag.explain.faithfulness import Faithfulness, faithfulness, without_subspace
from jasper_rag.models.subspace_predictor import PredictionParts, SubspacePredictor

CENTROIDS = torch.eye(3)
WEIGHTS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
DOCUMENTS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def parts(weights: Tensor = WEIGHTS, scale: float = 1.0) -> PredictionParts:
    nothing = torch.zeros(len(weights), 3)
    question = torch.full((len(weights), 3), 0.5)
    return PredictionParts(question, scale * weights @ CENTROIDS, nothing, nothing + 0.25, weights, nothing[:, 0])


def test_a_subspace_is_taken_out() -> None:
    left = without_subspace(parts(), CENTROIDS, torch.tensor([0, 2]))
    torch.testing.assert_close(left, torch.tensor([[0.75, 0.95, 0.85], [0.85, 1.35, 0.75]]))


def test_a_scaled_prediction_loses_the_scaled_part() -> None:
    left = without_subspace(parts(scale=0.5), CENTROIDS, torch.tensor([0, 2]))
    torch.testing.assert_close(left, torch.tensor([[0.75, 0.85, 0.80], [0.80, 1.05, 0.75]]))


def test_of_a_model_the_rest_is_what_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    centroids, asked = torch.randn(3, 4, generator=generator), torch.randn(5, 4, generator=generator)
    model = SubspacePredictor({"embedding_dim": 4, "num_subspaces": 3, "normalize_output": True}, centroids)
    found = model.parts(asked)
    rows = found.routing_weights.argmax(dim=1)
    with torch.no_grad():
        prediction = model.eval()(asked)
    removed = found.routing_weights.gather(1, rows[:, None]) * centroids[rows] / asked.norm(dim=1, keepdim=True)
    torch.testing.assert_close(without_subspace(found, centroids, rows), prediction - removed, atol=1e-5, rtol=0)


def test_the_likeliest_carries_the_first_and_not_the_second() -> None:
    # The first source lies along the likeliest subspace. The second lies along another: taking the likeliest away
    # costs nothing, and the other costs something or, if the third is drawn, nothing either.
    found = faithfulness(parts(), CENTROIDS, DOCUMENTS, torch.tensor([0, 1]), seed=0)
    assert isinstance(found, Faithfulness)
    assert (found.questions, found.share, found.share_equal_weight) == (2, 0.5, 0.5)
    assert found.mean_drop == pytest.approx(0.35)
    assert min(abs(found.mean_drop_other - value) for value in (0.0, 0.15)) < 1e-6
    assert min(abs(found.mean_drop_equal_weight - value) for value in (0.0, 0.3)) < 1e-6


def test_drops_are_differences_of_scores() -> None:
    found = faithfulness(parts(), CENTROIDS, DOCUMENTS, torch.tensor([0, 1]), seed=0)
    whole = parts().question + parts().coarse + parts().steering
    left = without_subspace(parts(), CENTROIDS, torch.tensor([0, 1]))
    drops = ((whole - left) * DOCUMENTS).sum(dim=1)
    assert found.mean_drop == pytest.approx(float(drops.mean()))


def test_others_are_never_the_likeliest_and_follow_the_seed() -> None:
    weights = torch.tensor([[0.8, 0.2, 0.0]]).repeat(400, 1)
    sources = torch.zeros(400, dtype=torch.int64)
    runs = [faithfulness(parts(weights), CENTROIDS, DOCUMENTS, sources, seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].share == runs[2].share == 1.0
    assert runs[0].mean_drop_other == runs[0].mean_drop_equal_weight == 0.0
    mixed = [faithfulness(parts(weights), CENTROIDS, torch.eye(3)[1:], sources, seed) for seed in (0, 1)]
    assert mixed[0] != mixed[1]
    assert mixed[0].mean_drop_other == pytest.approx(0.1, abs=0.02)
    assert mixed[0].mean_drop_equal_weight == pytest.approx(0.4, abs=0.08)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"centroids \[2, 3\]"):
        without_subspace(parts(), CENTROIDS[:2], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        without_subspace(parts(), CENTROIDS, torch.tensor([0]))
    with pytest.raises(ValueError, match="rows from 0 to 3 for 3 subspaces"):
        without_subspace(parts(), CENTROIDS, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"2 questions with \[1\] top rows"):
        faithfulness(parts(), CENTROIDS, DOCUMENTS, torch.tensor([0]), seed=0)
    with pytest.raises(ValueError, match="0 questions"):
        faithfulness(parts(WEIGHTS[:0]), CENTROIDS, DOCUMENTS, torch.zeros(0, dtype=torch.int64), seed=0)
