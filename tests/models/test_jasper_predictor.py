from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.jasper_predictor import ACTIVATIONS, JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig

DIM, HIDDEN, BATCH = 6, 8, 5
DOCUMENTED = {"residual": False, "linear_path": False, "mlp": True}
PATHS = [
    {"residual": residual, "linear_path": linear_path, "mlp": mlp}
    for residual in (True, False)
    for linear_path in (True, False)
    for mlp in (True, False)
    if residual or linear_path or mlp
]
IDENTITIES = [paths for paths in PATHS if paths["residual"] or paths["linear_path"]]


def predictor(**changes: Any) -> JASPERPredictor:
    """With weights of its own, whatever the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return JASPERPredictor(JASPERPredictorConfig(**{"embedding_dim": DIM, "hidden_dim": HIDDEN, **changes}))


def vectors(seed: int) -> Tensor:
    return functional.normalize(torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("paths", IDENTITIES, ids=str)
@pytest.mark.parametrize("steered", [False, True])
def test_untrained_is_the_question_to_the_bit(paths: dict[str, bool], steered: bool) -> None:
    question = vectors(0)
    model = predictor(**paths)
    for mode in (True, False):  # dropout draws in between change nothing: the last layer is zero
        assert torch.equal(model.train(mode)(question, vectors(1) if steered else None), question)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize(
    ("layers", "norm", "dropout"), [(1, True, 0.5), (2, True, 0.0), (3, False, 0.5), (3, True, 0.5)]
)
def test_without_paths_it_is_the_documented_network(activation: str, layers: int, norm: bool, dropout: float) -> None:
    model = predictor(**DOCUMENTED, activation=activation, num_layers=layers, use_layer_norm=norm, dropout=dropout)

    def network(inputs: int, outputs: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        widths = [inputs, *[HIDDEN] * (layers - 1)]
        for before, after in pairwise(widths):
            parts.append(nn.Linear(before, after))
            parts.append(getattr(nn, activation)())
            if norm:
                parts.append(nn.LayerNorm(after))
            if dropout:
                parts.append(nn.Dropout(dropout))
        return nn.Sequential(*parts, nn.Linear(widths[-1], outputs))

    randomise(model)
    question_encoder, steering_encoder, head = network(DIM, HIDDEN), network(DIM, HIDDEN), network(2 * HIDDEN, DIM)
    question_encoder.load_state_dict(model.question_encoder.state_dict())
    steering_encoder.load_state_dict(model.steering_encoder.state_dict())
    head.load_state_dict(model.predictor_head.state_dict())
    assert len(list(model.children())) == 3
    for training in (True, False):
        for part in (model, question_encoder, steering_encoder, head):
            part.train(training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            expected = head(torch.cat([question_encoder(vectors(0)), steering_encoder(vectors(1))], dim=1))
            torch.manual_seed(1)
            assert torch.equal(model(vectors(0), vectors(1)), expected)


def test_paths_add_up() -> None:
    model = predictor().eval()
    randomise(model)
    alone = predictor(**DOCUMENTED).eval()
    alone.load_state_dict({key: value for key, value in model.state_dict().items() if "_map" not in key})
    question, steering = vectors(0), vectors(1)
    maps = question @ model.question_map.weight.T + steering @ model.steering_map.weight.T
    torch.testing.assert_close(model(question, steering), question + maps + alone(question, steering))


def test_no_steering_is_zero_steering() -> None:
    model = predictor().eval()
    randomise(model)
    question = vectors(0)
    torch.testing.assert_close(model(question), model(question, torch.zeros_like(question)))
    assert not torch.allclose(model(question), model(question, vectors(1)))


@pytest.mark.parametrize("paths", [paths for paths in PATHS if paths["linear_path"] or paths["mlp"]], ids=str)
def test_every_parameter_learns_from_the_second_step_on(paths: dict[str, bool]) -> None:
    model = predictor(**paths, dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(
            (functional.normalize(model(vectors(0), vectors(1)), dim=1) - vectors(2)).square().sum()
        )
        optimizer.step()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient is not None, name
        # A prediction of zero length would make this 1e12.
        assert 0 < gradient.abs().max() < 1e3, name


def test_initial_weights() -> None:
    model = predictor(**DOCUMENTED, embedding_dim=64, hidden_dim=64, num_layers=3)
    first = model.predictor_head[0]
    assert isinstance(first, nn.Linear)
    bound = math.sqrt(6 / (128 + 64)) / math.sqrt(2)  # Glorot uniform with gain 1/sqrt(2)
    assert 0.95 * bound < first.weight.abs().max() <= bound
    assert not any(parameter.any() for name, parameter in model.named_parameters() if name.endswith("0.bias"))


def test_output_of_unit_length_on_request() -> None:
    raw, scaled = predictor(**DOCUMENTED).eval(), predictor(**DOCUMENTED, normalize_output=True).eval()
    question, steering = vectors(0), vectors(1)
    torch.testing.assert_close(scaled(question, steering), functional.normalize(raw(question, steering), dim=1))


def test_wrong_shapes_are_refused() -> None:
    model = predictor()
    with pytest.raises(ValueError, match="questions of width 7 for a predictor of width 6"):
        model(torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"steering \[3, 6\] for questions \[2, 6\]"):
        model(torch.zeros(2, 6), torch.zeros(3, 6))


def test_a_predictor_without_paths_is_refused() -> None:
    with pytest.raises(ValueError, match="all three are off"):
        predictor(residual=False, linear_path=False, mlp=False)


@pytest.mark.parametrize(
    "change",
    [{"hiden_dim": 3}, {"embedding_dim": 0}, {"dropout": 1.0}, {"num_layers": 0}, {"activation": "Softplus"}],
    ids=str,
)
def test_config_refuses(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        JASPERPredictorConfig.model_validate(change)
