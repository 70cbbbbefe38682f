from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jasper_rag.data.curriculum import Curriculum
from jasper_rag.data.dataset_config import CurriculumSettings, DatasetConfig, SteeringShares
from jasper_rag.training.steering_config import SteeringConfig

OF_DATASET = CurriculumSettings(mode="cosine", zero_prob_start=0.4, zero_prob_end=0.2, epochs_total=8)


def dataset(curriculum: CurriculumSettings | None = OF_DATASET) -> DatasetConfig:
    shares = SteeringShares(zero=0.1, centroid=0.2, keyword=0.3, residual=0.4)
    return DatasetConfig(embedding_dim=4, n_neg=1, steering_probabilities=shares, curriculum=curriculum)


def schedule(settings: dict[str, Any]) -> Curriculum:
    return SteeringConfig(**settings).schedule(dataset())


def test_what_is_null_is_the_datasets_own() -> None:
    assert SteeringConfig().schedule(dataset()) == dataset().schedule()
    assert SteeringConfig().schedule(dataset(None)) == Curriculum((0.1, 0.2, 0.3, 0.4))


def test_probabilities_of_the_run_under_the_datasets_curriculum() -> None:
    found = schedule({"probabilities": {"zero": 0.5, "keyword": 0.5}})
    assert found == Curriculum((0.5, 0.0, 0.5, 0.0), "cosine", 0.4, 0.2, 8)


def test_a_curriculum_of_the_run_over_the_datasets_probabilities() -> None:
    found = schedule({"curriculum": {"zero_prob_start": 0.9, "epochs_total": 3}})
    assert found == Curriculum((0.1, 0.2, 0.3, 0.4), "linear", 0.9, 0.1, 3)


def test_the_other_spelling() -> None:
    found = schedule({"curriculum": {"mode": "fixed", "start_distance": 0.25}})
    assert found.probabilities(50)[0] == pytest.approx(0.75)


def test_no_curriculum_at_all() -> None:
    assert schedule({"curriculum": {"mode": "none"}}) == Curriculum((0.1, 0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"probabilities": {"zero": 0.5}}, "must sum to 1, but the sum is 0.5"),
        ({"probabilities": {"zero": 1.5, "centroid": -0.5}}, "less than or equal to 1"),
        ({"probabilities": {"none": 1}}, "Extra inputs"),
        ({"curriculum": {"zero_prob_end": 0.5, "start_distance": 0.5}}, "not both"),
        ({"curriculum": {"mode": "square"}}, "'linear', 'cosine', 'fixed' or 'none'"),
        ({"curriculum": {"epochs_total": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        SteeringConfig(**settings)
