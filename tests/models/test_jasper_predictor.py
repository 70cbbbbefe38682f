from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.dropout import Dropout
from jasper_rag.models.jasper_predictor import JASPERPredictor, JEPAPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.mlp import ACTIVATIONS

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
                parts.append(Dropout(dropout))
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
    expected = question + maps + model.config.mlp_scale * alone(question, steering)
    torch.testing.assert_close(model(question, steering), expected)
    larger = predictor(mlp_scale=2.0).eval()
    larger.load_state_dict(model.state_dict())
    torch.testing.assert_close(larger(question, steering), question + maps + 2 * alone(question, steering))


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


def documented_state(layers: int) -> dict[str, Tensor]:
    """Keys and shapes of the documented network with LayerNorm and dropout: four modules per hidden layer."""
    generator = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {}
    for part, inputs, outputs in [
        ("question_encoder", DIM, HIDDEN),
        ("steering_encoder", DIM, HIDDEN),
        ("predictor_head", 2 * HIDDEN, DIM),
    ]:
        for layer in range(layers - 1):
            width = HIDDEN if layer else inputs
            shapes |= {f"{part}.{4 * layer}.weight": (HIDDEN, width), f"{part}.{4 * layer}.bias": (HIDDEN,)}
            shapes |= {f"{part}.{4 * layer + 2}.{name}": (HIDDEN,) for name in ("weight", "bias")}
        last = 4 * (layers - 1)
        shapes |= {
            f"{part}.{last}.weight": (outputs, HIDDEN if layers > 1 else inputs),
            f"{part}.{last}.bias": (outputs,),
        }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_state_of_the_documented_network_loads_strictly(layers: int) -> None:
    model, state = predictor(**DOCUMENTED, num_layers=layers), documented_state(layers)
    assert list(model.state_dict()) == list(state)
    model.load_state_dict(state)

    def network(x: Tensor, part: str) -> Tensor:
        for layer in range(layers - 1):
            x = functional.linear(x, state[f"{part}.{4 * layer}.weight"], state[f"{part}.{4 * layer}.bias"])
            norm = state[f"{part}.{4 * layer + 2}.weight"], state[f"{part}.{4 * layer + 2}.bias"]
            x = functional.layer_norm(functional.gelu(x), (HIDDEN,), *norm)
        last = f"{part}.{4 * (layers - 1)}"
        return functional.linear(x, state[f"{last}.weight"], state[f"{last}.bias"])

    latents = network(vectors(0), "question_encoder"), network(vectors(1), "steering_encoder")
    expected = network(torch.cat(latents, dim=1), "predictor_head")
    torch.testing.assert_close(model.eval()(vectors(0), vectors(1)), expected)
    kept = model.get_latent_representations()
    assert list(kept) == ["question_latent", "steering_latent"]
    torch.testing.assert_close(tuple(kept.values()), latents)


def test_parameters_of_the_documented_size() -> None:
    model = predictor(**DOCUMENTED, embedding_dim=384, hidden_dim=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_435_456
    assert "total: 2,435,456" in model.get_model_summary()


def test_a_dict_is_as_good_as_a_config() -> None:
    given = {"embedding_dim": DIM, "hidden_dim": HIDDEN, "residual": False}
    model = JASPERPredictor(given)
    assert model.config == JASPERPredictorConfig.from_dict(given) == JASPERPredictorConfig(**given)
    assert (model.embedding_dim, model.hidden_dim) == (DIM, HIDDEN)
    for build in (JASPERPredictor, JASPERPredictorConfig.from_dict):
        with pytest.raises(ValueError, match="hiden_dim"):
            build({"hiden_dim": 3})


def test_latents_are_those_of_the_last_pass() -> None:
    model = predictor(dropout=0.0)
    assert model.get_latent_representations() == {}
    for seed in (0, 1):
        model(vectors(seed))
        kept = model.get_latent_representations()
        assert torch.equal(kept["question_latent"], model.question_encoder(vectors(seed)))
        assert torch.equal(kept["steering_latent"], model.steering_encoder(torch.zeros(BATCH, DIM)))
        assert not any(latent.requires_grad for latent in kept.values())
    kept["question_latent"].zero_()
    assert model.get_latent_representations()["question_latent"].any()
    alone = predictor(mlp=False)
    alone(vectors(0))
    assert alone.get_latent_representations() == {}
    copied = copy.deepcopy(model)
    assert list(copied.state_dict()) == list(model.state_dict())


@pytest.mark.slow
def test_compiles_into_one_graph() -> None:
    model = predictor().eval()
    randomise(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(vectors(0), vectors(1)), model(vectors(0), vectors(1)))


def test_summary_names_every_part() -> None:
    lines = predictor().get_model_summary().splitlines()
    assert lines[0].startswith("JASPERPredictor(embedding_dim=6, hidden_dim=8, num_layers=3")
    parts = ["question_map", "steering_map", "question_encoder", "steering_encoder", "predictor_head", "total"]
    assert [line.strip().split(":")[0] for line in lines[1:]] == parts


def test_the_plans_name() -> None:
    assert JEPAPredictor is JASPERPredictor


@pytest.mark.parametrize("paths", PATHS)
def test_a_predictor_says_whether_steering_moves_it(paths: dict[str, bool]) -> None:
    model = predictor(**paths).eval()
    question, steering = vectors(0), vectors(1)
    assert model.steers is not torch.equal(model(question, steering), model(question))
    randomise(model)
    moved = not torch.equal(model(question, steering), model(question))
    assert model.steers is moved is (model.config.linear_path or model.config.mlp)
