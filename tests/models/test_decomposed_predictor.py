from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.errors import InputError
from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor, DecomposedJEPAPredictor
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig

DIM, HIDDEN, ROUTER_HIDDEN, COUNT, BATCH = 6, 8, 7, 4, 5
DOCUMENTED = {"residual": False, "linear_path": False, "cosine_logits": False}
DOCUMENTED_DEFAULTS = {
    "embedding_dim": 768,
    "hidden_dim": 512,
    "num_subspaces": 8,
    "num_layers": 2,
    "dropout": 0.1,
    "activation": "GELU",
    "use_layer_norm": True,
    "normalize_output": False,
    "router_hidden_dim": 256,
    "router_temperature": 1.0,
    "router_gumbel_hard": False,
    "router_normalize_input": True,
    "fine_input_mode": "concat",
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"fine_input_mode": "add"},
    {"mlp": False},
    {"residual": False},
    {"linear_path": False, "router_gumbel_hard": True, "router_argmax": True},
    DOCUMENTED,
    {**DOCUMENTED, "fine_input_mode": "add"},
]


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


CENTROIDS = vectors(7, COUNT) * 2


def predictor(*, learned: bool = False, **changes: Any) -> DecomposedJASPERPredictor:
    """With weights of its own, whatever the global random state."""
    sizes = {"embedding_dim": DIM, "hidden_dim": HIDDEN, "router_hidden_dim": ROUTER_HIDDEN, "num_subspaces": COUNT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = DecomposedJASPERPredictor(DecomposedJASPERConfig(**{**sizes, **changes}))
    if learned:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return made


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_prediction_is_coarse_plus_fine(variant: dict[str, Any], training: bool) -> None:
    prediction, found = predictor(learned=True, **variant).train(training)(vectors(0), vectors(1), CENTROIDS)
    assert prediction.shape == (BATCH, DIM)
    torch.testing.assert_close(prediction.detach(), found["coarse"] + found["fine"], atol=1e-6, rtol=0)
    torch.testing.assert_close(found["coarse"], found["routing_weights"] @ CENTROIDS, atol=1e-6, rtol=0)
    torch.testing.assert_close(found["routing_weights"].sum(dim=1), torch.ones(BATCH))
    torch.testing.assert_close(found["atypicality"], found["fine"].square().sum(dim=1).sqrt())


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each.get("residual", True)], ids=str)
@pytest.mark.parametrize("steering", [None, vectors(1)], ids=["plain", "steered"])
def test_untrained_is_the_question(variant: dict[str, Any], steering: Tensor | None) -> None:
    made = predictor(**variant)
    assert not made.steers
    for mode in (True, False):
        prediction, _ = made.train(mode)(vectors(0), steering, CENTROIDS)
        torch.testing.assert_close(prediction, vectors(0), atol=1e-6, rtol=0)


def test_untrained_without_the_residual_path_is_the_coarse_part() -> None:
    made = predictor(residual=False).eval()
    prediction, found = made(vectors(0), vectors(1), CENTROIDS)
    cosines = functional.cosine_similarity(vectors(0)[:, None], CENTROIDS[None], dim=2)
    torch.testing.assert_close(prediction, torch.softmax(cosines / 0.05, dim=1) @ CENTROIDS)
    assert float(found["atypicality"].abs().max()) == 0.0
    torch.autograd.backward(made.decompose(vectors(0), None, CENTROIDS).atypicality.sum())
    assert all(bool(each.grad.isfinite().all()) for each in made.parameters() if each.grad is not None)


def layers(state: dict[str, Tensor], prefix: str, inputs: Tensor) -> Tensor:
    """Linear, GELU, LayerNorm, (dropout), linear; written out."""
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    hidden = inputs @ weights[".0.weight"].T + weights[".0.bias"]
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return (hidden * weights[".2.weight"] + weights[".2.bias"]) @ weights[".4.weight"].T + weights[".4.bias"]


def composed(state: dict[str, Tensor], mode: str, question: Tensor, steering: Tensor) -> dict[str, Tensor]:
    """The documented network, from a state dict."""
    joined = torch.cat([question, steering], dim=1)
    logits = layers(state, "router.router_mlp", joined / joined.norm(dim=1, keepdim=True))
    coarse = torch.softmax(logits, dim=1) @ CENTROIDS
    asked, steered = layers(state, "question_encoder", question), layers(state, "steering_encoder", steering)
    if mode == "concat":
        inputs = torch.cat([asked, steered, coarse], dim=1)
    else:
        inputs = asked + steered + coarse @ state["coarse_projector.weight"].T + state["coarse_projector.bias"]
    return {"concept_logits": logits, "coarse": coarse, "fine": layers(state, "fine_mlp", inputs)}


@pytest.mark.parametrize("mode", ["concat", "add"])
def test_documented_network_loads_documented_state_dicts(mode: str) -> None:
    """Shapes by name as documented, from nothing of ours."""
    generator = torch.Generator().manual_seed(2)
    fine_inputs = 2 * HIDDEN + DIM if mode == "concat" else HIDDEN
    sizes = {
        "question_encoder": (DIM, HIDDEN, HIDDEN),
        "steering_encoder": (DIM, HIDDEN, HIDDEN),
        "router.router_mlp": (2 * DIM, ROUTER_HIDDEN, COUNT),
        "fine_mlp": (fine_inputs, HIDDEN, DIM),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, hidden, outputs) in sizes.items():
        shapes |= {f"{name}.0.weight": (hidden, inputs), f"{name}.0.bias": (hidden,)}
        shapes |= {f"{name}.2.weight": (hidden,), f"{name}.2.bias": (hidden,)}
        shapes |= {f"{name}.4.weight": (outputs, hidden), f"{name}.4.bias": (outputs,)}
    if mode == "add":
        shapes |= {"coarse_projector.weight": (HIDDEN, DIM), "coarse_projector.bias": (HIDDEN,)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made = predictor(fine_input_mode=mode, **DOCUMENTED).eval()
    made.load_state_dict(state, strict=True)
    prediction, found = made(vectors(0), vectors(1), CENTROIDS)
    expected = composed(state, mode, vectors(0), vectors(1))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(prediction, expected["coarse"] + expected["fine"])


def test_every_path_together() -> None:
    made = predictor(learned=True, mlp_scale=0.5).eval()
    plain = predictor(**DOCUMENTED).eval()
    state = {name: value for name, value in made.state_dict().items() if name in plain.state_dict()}
    weights, _ = made.router(vectors(0), vectors(1), centroids=CENTROIDS)
    coarse = weights @ CENTROIDS
    inputs = torch.cat(
        [
            layers(state, "question_encoder", vectors(0)),
            layers(state, "steering_encoder", vectors(1)),
            coarse,
        ],
        dim=1,
    )
    fine = vectors(0) - coarse + made.question_map(vectors(0)) + made.steering_map(vectors(1))
    fine = fine + 0.5 * layers(state, "fine_mlp", inputs)
    torch.testing.assert_close(made(vectors(0), vectors(1), CENTROIDS)[0], coarse + fine)


def test_explanation_is_detached_and_the_rest_is_not() -> None:
    made = predictor(learned=True)
    prediction, found = made(vectors(0), vectors(1), CENTROIDS)
    assert sorted(found) == [
        "atypicality",
        "coarse",
        "coarse_vector",
        "concept_logits",
        "fine",
        "fine_vector",
        "routing_weights",
    ]
    assert prediction.requires_grad
    assert not any(value.requires_grad for value in found.values())
    assert found["coarse_vector"] is found["coarse"]
    assert found["fine_vector"] is found["fine"]


@pytest.mark.parametrize("part", ["routing_weights", "concept_logits", "coarse", "fine", "atypicality"])
def test_losses_on_the_parts_train_the_router(part: str) -> None:
    made, centroids = predictor(), CENTROIDS.clone().requires_grad_()
    value = getattr(made.decompose(vectors(0), vectors(1), centroids), part)
    value.square().cumsum(dim=-1).sum().backward()
    last = made.get_parameter("router.router_mlp.4.weight").grad
    assert last is not None
    assert float(last.abs().sum()) > 0
    assert centroids.grad is None


def test_decompose_is_what_forward_explains() -> None:
    made = predictor(learned=True).eval()
    parts = made.decompose(vectors(0), None, CENTROIDS)
    prediction, found = made(vectors(0), torch.zeros(BATCH, DIM), CENTROIDS)
    torch.testing.assert_close(parts.prediction, prediction)
    for name, value in found.items():
        torch.testing.assert_close(parts.explanation()[name], value)


def test_normalised_output() -> None:
    prediction, found = predictor(learned=True, normalize_output=True)(vectors(0), vectors(1), CENTROIDS)
    torch.testing.assert_close(prediction.detach(), functional.normalize(found["coarse"] + found["fine"], dim=1))


def test_training_argument_stands_over_the_mode() -> None:
    made = predictor(learned=True, dropout=0.0, cosine_temperature=1.0)
    still = made.eval()(vectors(0), None, CENTROIDS)[0]
    assert torch.equal(made.train()(vectors(0), None, CENTROIDS, training=False)[0], still)
    assert not torch.equal(made.eval()(vectors(0), None, CENTROIDS, training=True)[0], still)


def test_state_dict_round_trip() -> None:
    saved = predictor(learned=True).eval()
    saved.router.set_centroids(CENTROIDS)
    loaded = DecomposedJASPERPredictor(saved.config.model_dump()).eval()
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()), strict=True)
    assert torch.equal(loaded(vectors(0), vectors(1), CENTROIDS)[0], saved(vectors(0), vectors(1), CENTROIDS)[0])
    weights = loaded.get_routing_weights(vectors(0), vectors(1))
    assert torch.equal(weights, saved.get_routing_weights(vectors(0), vectors(1), CENTROIDS))


def test_latents_of_the_last_pass() -> None:
    made = predictor(learned=True)
    assert made.get_latent_representations() == {}
    _, found = made(vectors(0), vectors(1), CENTROIDS)
    latents = made.get_latent_representations()
    same = {"routing_weights", "coarse", "fine", "atypicality"}
    assert set(latents) == {"question_latent", "steering_latent", *same}
    assert latents["question_latent"].shape == latents["steering_latent"].shape == (BATCH, HIDDEN)
    assert not any(value.requires_grad for value in latents.values())
    assert all(torch.equal(latents[name], found[name]) for name in same)


@pytest.mark.parametrize(
    ("variant", "layer"),
    [
        ({}, "steering_map"),
        ({"linear_path": False}, "fine_mlp"),
        ({"residual": False, "mlp": False}, "router.router_mlp"),
    ],
)
def test_steers_once_a_last_map_is_not_zero(variant: dict[str, Any], layer: str) -> None:
    made = predictor(**variant)
    assert not made.steers
    part = made.get_submodule(layer)
    nn.init.eye_((part[-1] if isinstance(part, nn.Sequential) else part).weight)  # type: ignore[arg-type]
    assert made.steers
    moved = made.eval()(vectors(0), vectors(1), CENTROIDS)[0] - made(vectors(0), None, CENTROIDS)[0]
    assert float(moved.detach().abs().max()) > 1e-6


def test_router_follows_the_model_unless_told() -> None:
    made = DecomposedJASPERConfig(num_layers=4, dropout=0.3, activation="ReLU", router_num_layers=1, router_dropout=0.0)
    expected = {"num_layers": 1, "dropout": 0.0, "activation": "ReLU", "hidden_dim": 256}
    assert made.router() == SubspaceRouterConfig(**expected)
    other = DecomposedJASPERConfig(router_argmax=True, router_temperature=2.0, router_use_layer_norm=False).router()
    assert (other.argmax, other.temperature, other.use_layer_norm) == (True, 2.0, False)


def test_defaults_alias_and_summary() -> None:
    config = DecomposedJASPERConfig()
    assert {name: getattr(config, name) for name in DOCUMENTED_DEFAULTS} == DOCUMENTED_DEFAULTS
    assert DecomposedJEPAPredictor is DecomposedJASPERPredictor
    made = predictor()
    assert (made.embedding_dim, made.hidden_dim, made.num_subspaces) == (DIM, HIDDEN, COUNT)
    assert f"total: {sum(each.numel() for each in made.parameters()):,}" in made.get_model_summary()


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="Did you mean 'router_temperature'"):
        DecomposedJASPERPredictor({"router_temprature": 1.0})
    with pytest.raises(ValueError, match="fine_input_mode"):
        DecomposedJASPERPredictor({"fine_input_mode": "sum"})
    with pytest.raises(ValueError, match="all three are off"):
        DecomposedJASPERPredictor({"residual": False, "linear_path": False, "mlp": False})


@pytest.mark.parametrize("variant", [{}, DOCUMENTED], ids=["ours", "documented"])
def test_error_messages(variant: dict[str, Any]) -> None:
    made = predictor(**variant)
    with pytest.raises(ValueError, match=r"centroids \[3, 6\] for a router of 4 subspaces"):
        made(vectors(0), None, CENTROIDS[:3])
    with pytest.raises(ValueError, match=r"centroids of width 5 for a router of width 6"):
        made(vectors(0), None, CENTROIDS[:, :5])
    with pytest.raises(ValueError, match=r"questions of width 5"):
        made(vectors(0)[:, :5], None, CENTROIDS)
    with pytest.raises(ValueError, match=r"steering \[4, 6\] for questions \[5, 6\]"):
        made(vectors(0), vectors(1)[:4], CENTROIDS)
