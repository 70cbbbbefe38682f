from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jasper_rag.losses.loss_config import LossConfig

DOCUMENTED = {
    "lambda_jasper": 1.0,
    "lambda_contrastive": 0.5,
    "lambda_centroid": 0.1,
    "lambda_vicreg": 0.1,
    "jasper_beta": 1.0,
    "contrastive_temperature": 0.07,
    "centroid_temperature": 0.1,
    "vicreg_lambda_v": 25.0,
    "vicreg_lambda_i": 25.0,
    "vicreg_lambda_c": 1.0,
}


def test_documented_keys_and_defaults() -> None:
    values = LossConfig().model_dump()
    assert list(values)[:10] == list(DOCUMENTED)
    assert values == DOCUMENTED | {"negatives": "sources", "vicreg_scale": True, "stages": ()}


def test_the_plans_spellings() -> None:
    given = {"lambda_jepa": 2.0, "jepa_beta": "5e-1", "stages": [{"from_epoch": 1, "lambda_jepa": 3.0}]}
    config = LossConfig.model_validate(given)
    assert (config.lambda_jasper, config.jasper_beta) == (2.0, 0.5)
    assert config.weights_at(1)["lambda_jasper"] == 3.0
    assert set(given) == {"lambda_jepa", "jepa_beta", "stages"}
    assert LossConfig.model_validate(config) is config


def test_the_stages_of_the_tuning_guide() -> None:
    config = LossConfig.model_validate(
        {
            "lambda_contrastive": 0.0,
            "lambda_centroid": 0.0,
            "lambda_vicreg": 0.0,
            "stages": [
                {"from_epoch": 5, "lambda_contrastive": 0.5},
                {"from_epoch": 15, "lambda_centroid": 0.1},
                {"from_epoch": 25, "lambda_vicreg": 0.1, "lambda_contrastive": 0.2},
            ],
        }
    )
    weights = {epoch: list(config.weights_at(epoch).values()) for epoch in (0, 4, 5, 15, 25, 99)}
    assert weights == {
        0: [1.0, 0.0, 0.0, 0.0],
        4: [1.0, 0.0, 0.0, 0.0],
        5: [1.0, 0.5, 0.0, 0.0],
        15: [1.0, 0.5, 0.1, 0.0],
        25: [1.0, 0.2, 0.1, 0.1],
        99: [1.0, 0.2, 0.1, 0.1],
    }
    assert LossConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lambda_jaspr": 1}, "lambda_jaspr"),
        ({"lambda_jasper": -1}, "greater than or equal to 0"),
        ({"lambda_jasper": float("inf")}, "finite"),
        ({"contrastive_temperature": 0}, "greater than 0"),
        ({"centroid_temperature": -1}, "greater than 0"),
        ({"negatives": "all"}, "'sources', 'batch' or 'hard'"),
        ({"lambda_jepa": 1, "lambda_jasper": 1}, "lambda_jepa and lambda_jasper are one setting"),
        ({"stages": [{"lambda_jasper": 1}]}, "from_epoch"),
        ({"stages": [{"from_epoch": 0, "jepa_beta": 1}]}, "jepa_beta"),
        ({"stages": [{"from_epoch": 3}, {"from_epoch": 3}]}, "3 follows 3"),
        ({"stages": [{"from_epoch": -1}]}, "greater than or equal to 0"),
        ({"stages": 3}, "tuple"),
        (
            {"lambda_contrastive": 0, "lambda_centroid": 0, "lambda_vicreg": 0, "lambda_jasper": 0},
            "every weight is 0 in epoch 0",
        ),
        (
            {
                "lambda_contrastive": 0,
                "lambda_centroid": 0,
                "lambda_vicreg": 0,
                "stages": [{"from_epoch": 7, "lambda_jasper": 0}],
            },
            "every weight is 0 in epoch 7",
        ),
    ],
    ids=str,
)
def test_what_it_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossConfig.model_validate(given)


def test_something_else_than_keys_is_refused() -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        LossConfig.model_validate(3)
