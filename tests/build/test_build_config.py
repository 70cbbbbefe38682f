from __future__ import annotations

import itertools
from typing import Any

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.data.dataset_config import CurriculumSettings, SteeringShares
from jasper_rag.errors import InputError
from jasper_rag.jasper_config import load_settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steering_probabilities": {"zero": 1.0}}, "needs exactly zero, centroid, keyword, residual"),
        (
            {"steering_probabilities": {"zero": 0.5, "centroid": 0.5, "keyword": 0.5, "residual": -0.5}},
            "must be >= 0 and sum to 1",
        ),
        ({"split_ratios": (0.5, 0.1, 0.1)}, "must be >= 0 and sum to 1"),
        ({"split_ratios": (0.9, 0.0, 0.1)}, "train and val need a share"),
        ({"clustering": "topic", "n_clusters": 3}, "n_clusters is of k-means; clustering by topic"),
        ({"curriculum": {"zero_prob_start": 0.5, "start_distance": 0.1}}, "not both"),
        ({"curriculum": {"zero_prob_start": 1.5}}, "less than or equal to 1"),
        ({"curriculum": {"epochs_total": float("inf")}}, "finite number"),
        ({"curriculum": {"epochs": 3}}, "unknown key"),
        ({"clustering": "spectral"}, "'kmeans', 'topic', 'title' or 'file'"),
        ({"negatives": {"tier_proportions": [0, 0, 0, 0]}}, "one of them above"),
        ({"n_negs": 3}, "unknown key"),
    ],
)
def test_bad_settings_are_explained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(BuildConfig, None, settings)


def test_every_accepted_curriculum_can_be_loaded_again() -> None:
    spellings: list[dict[str, Any]] = [
        {},
        {"zero_prob_start": 1.0, "zero_prob_end": 0.0, "epochs_total": 0},
        {"start_distance": 0.0, "end_distance": 1.0, "warmup_epochs": 7.5},
        {"zero_prob_end": 0.3},
    ]
    for spelling, mode in itertools.product(spellings, ("linear", "cosine", "fixed")):
        config = BuildConfig.model_validate({"curriculum": {**spelling, "mode": mode}})
        written = config.curriculum.model_dump(exclude_none=True)
        schedule = CurriculumSettings.model_validate(written).curriculum(SteeringShares())
        assert schedule.mode == mode
        if "start_distance" in spelling:
            assert (schedule.zero_start, schedule.zero_end, schedule.epochs_total) == (1.0, 0.0, 7.5)


def test_the_defaults_are_those_of_the_original_project() -> None:
    config = BuildConfig()
    assert (config.negatives.n_neg, config.negatives.adjacent_k) == (12, 3)
    assert (config.split_ratios, config.random_seed) == ((0.8, 0.1, 0.1), 42)
    assert set(config.steering_probabilities.values()) == {0.25}
