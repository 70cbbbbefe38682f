from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn

from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.predictors import Predictor, linear_paths, require_plain
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.training.predictor_training import predict

Model = TypeVar("Model", bound=nn.Module)

D, K = 6, 3
SETTINGS: dict[str, Any] = {"embedding_dim": D, "hidden_dim": 4, "num_layers": 2}


def plain(**changes: Any) -> JASPERPredictor:
    return moved(JASPERPredictor(SETTINGS | changes))


def routed(**changes: Any) -> SubspacePredictor:
    centroids = torch.randn(K, D, generator=torch.Generator().manual_seed(1))
    return moved(SubspacePredictor(SETTINGS | {"num_subspaces": K} | changes, centroids))


def moved(model: Model) -> Model:
    """With weights that are not 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("model", "linear"),
    [
        (plain(), False),
        (plain(mlp=False), True),
        (plain(mlp=False, residual=False), True),
        (routed(), False),
        (routed(mlp=False), True),
        (routed(mlp=False, residual=False), False),
        (routed(mlp=False, normalize_output=True), True),
    ],
)
def test_every_predictor_is_asked_as_torch_would(model: Predictor, linear: bool) -> None:
    """By the linear paths alone where there is no more, else by the whole of it."""
    assert (linear_paths(model) is not None) is linear
    questions = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
    steering = questions[::-1].copy()
    with torch.no_grad():
        expected = model(torch.from_numpy(questions), None).numpy()
        steered = model(torch.from_numpy(questions), torch.from_numpy(steering)).numpy()
    np.testing.assert_allclose(predict(model, questions), expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(predict(model, questions, steering), steered, rtol=0, atol=2e-6)


def test_a_routed_predictor_is_not_plain() -> None:
    model = plain()
    assert require_plain(model) is model
    with pytest.raises(ValueError, match="a plain predictor is needed, got a SubspacePredictor"):
        require_plain(routed())
