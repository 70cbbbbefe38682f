from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.errors import InputError
from jasper_rag.models.subspace_router import SubspaceRouter
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig

DIM, HIDDEN, COUNT, BATCH = 6, 8, 4, 5
NAMES = ["north", "east", "south", "west"]
DOCUMENTED_DEFAULTS = {
    "embedding_dim": 768,
    "hidden_dim": 256,
    "num_subspaces": 8,
    "num_layers": 2,
    "dropout": 0.1,
    "activation": "GELU",
    "use_layer_norm": True,
    "temperature": 1.0,
    "gumbel_hard": False,
    "normalize_input": True,
}


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def router(*, learned: bool = False, **changes: Any) -> SubspaceRouter:
    """Over centroids of length 1 to 4, with weights of its own whatever the global random state."""
    sizes = {"embedding_dim": DIM, "hidden_dim": HIDDEN, "num_subspaces": COUNT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = SubspaceRouter(SubspaceRouterConfig(**{**sizes, **changes}))
    if made.config.cosine_logits:
        made.set_centroids(vectors(7, COUNT) * torch.arange(1, COUNT + 1)[:, None])
    if learned:
        randomise(made)
    return made


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"gumbel_hard": True, "argmax": True}, {"cosine_logits": False}], ids=str)
def test_weights_are_probabilities(training: bool, options: dict[str, Any]) -> None:
    weights, logits = router(learned=True, **options)(vectors(0), vectors(1), training=training)
    assert weights.shape == logits.shape == (BATCH, COUNT)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(BATCH))
    if "gumbel_hard" in options:
        torch.testing.assert_close(weights.max(dim=1).values, torch.ones(BATCH))


@pytest.mark.parametrize("steering", [None, vectors(1)], ids=["plain", "steered"])
def test_untrained_routes_by_cosine(steering: Tensor | None) -> None:
    made = router(cosine_temperature=0.2)
    weights, logits = made(3 * vectors(0), steering, training=False)
    cosines = functional.cosine_similarity(vectors(0)[:, None], made.centroids[None], dim=2)
    torch.testing.assert_close(logits, cosines / 0.2)
    torch.testing.assert_close(weights, torch.softmax(cosines / 0.2, dim=1))


def test_given_centroids_stand_in_for_its_own() -> None:
    made, others = router(), vectors(8, COUNT).requires_grad_()
    _, logits = made(vectors(0), centroids=others)
    torch.testing.assert_close(logits, vectors(0) @ others.detach().T / 0.05)
    logits.sum().backward()
    assert others.grad is None


def test_documented_network() -> None:
    made = router(learned=True, cosine_logits=False, temperature=0.7).eval()
    assert list(made.state_dict()) == [f"router_mlp.{at}.{kind}" for at in (0, 2, 4) for kind in ("weight", "bias")]
    state = {name.removeprefix("router_mlp."): value for name, value in made.state_dict().items()}
    joined = torch.cat([vectors(0), 2 * vectors(1)], dim=1)
    hidden = functional.gelu((joined / joined.norm(dim=1, keepdim=True)) @ state["0.weight"].T + state["0.bias"])
    normed = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = (normed * state["2.weight"] + state["2.bias"]) @ state["4.weight"].T + state["4.bias"]
    weights, logits = made(vectors(0), 2 * vectors(1))
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(weights, torch.softmax(expected / 0.7, dim=1))


def test_the_input_may_stay_as_it_is() -> None:
    made = router(learned=True, cosine_logits=False, normalize_input=False, num_layers=1).eval()
    weight, bias = made.get_parameter("router_mlp.0.weight"), made.get_parameter("router_mlp.0.bias")
    torch.testing.assert_close(made(2 * vectors(0))[1], 2 * vectors(0) @ weight[:, :DIM].T + bias)


@pytest.mark.parametrize("hard", [True, False])
def test_gradient_flows_through_gumbel_samples(hard: bool) -> None:
    made = router(gumbel_hard=hard, cosine_temperature=1.0)
    weights, _ = made(vectors(0), vectors(1))
    (weights @ torch.arange(float(COUNT))).sum().backward()
    last = made.get_parameter("router_mlp.4.weight").grad
    assert last is not None
    assert bool(last.isfinite().all())
    assert float(last.abs().sum()) > 0


def test_samples_follow_the_logits_whatever_the_temperature() -> None:
    made = router(cosine_temperature=1.0)
    question = vectors(0, 1).expand(4000, DIM)
    for temperature in (1.0, 0.1):
        made.temperature = temperature
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            weights = made(question, training=True)[0]
        chosen = torch.bincount(weights.argmax(dim=1), minlength=COUNT) / len(question)
        torch.testing.assert_close(chosen, made(question[:1], training=False)[0][0], atol=0.03, rtol=0)


def test_a_lower_temperature_sharpens_samples_only() -> None:
    made = router(cosine_temperature=1.0)
    question, sharpness, still = vectors(0, 200), [], made(vectors(0), training=False)[0]
    for temperature in (1.0, 0.1):
        made.temperature = temperature
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            sharpness.append(float(made(question, training=True)[0].detach().max(dim=1).values.mean()))
    assert sharpness[0] < 0.8 < sharpness[1]
    assert torch.equal(made(vectors(0), training=False)[0], still)


def test_training_follows_the_mode() -> None:
    made = router(dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(made.train()(vectors(0))[0], made(vectors(0))[0])
    assert torch.equal(made.eval()(vectors(0))[0], made.train()(vectors(0), training=False)[0])


@pytest.mark.parametrize(
    ("step", "expected"),
    [(-1, 1.0), (0, 1.0), (25, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2), (50, 0.55), (100, 0.1), (999, 0.1)],
)
def test_temperature_falls_along_a_cosine(step: int, expected: float) -> None:
    assert router().temperature_at(step, 100) == pytest.approx(expected)


def test_temperature_never_rises() -> None:
    assert router().temperature_at(0, 0) == pytest.approx(0.1)
    assert [router(temperature=0.05).temperature_at(step, 2) for step in range(3)] == [0.05] * 3


def test_argmax_keeps_the_confidence() -> None:
    made, soft = router(argmax=True).eval(), router().eval()
    weights, _ = made(vectors(0))
    rows, confidences = made.get_primary_subspace(vectors(0))
    expected = soft(vectors(0))[0].max(dim=1)
    assert torch.equal(weights, functional.one_hot(expected.indices, COUNT).float())
    assert torch.equal(rows, expected.indices)
    torch.testing.assert_close(confidences, expected.values)


def test_explanations_of_a_batch_and_of_each_question() -> None:
    made = router(learned=True, dropout=0.5)
    found = made.train().explain(vectors(0), vectors(1), NAMES)
    assert made.training
    assert made.router_mlp.training
    weights = made.eval()(vectors(0), vectors(1))[0].detach()
    entropies = -(weights * weights.log()).sum(dim=1)
    assert list(found) == [
        "routing_weights",
        "primary_subspace",
        "primary_confidence",
        "entropy",
        "cluster_names",
        "samples",
    ]
    assert found["routing_weights"] == pytest.approx(weights.mean(dim=0).tolist())
    assert found["primary_subspace"] == NAMES[int(weights.mean(dim=0).argmax())]
    assert found["primary_confidence"] == max(found["routing_weights"])
    assert found["entropy"] == pytest.approx(float(entropies.mean()), abs=1e-6)
    assert found["cluster_names"] == NAMES
    assert len(found["samples"]) == BATCH
    for sample, row, entropy in zip(found["samples"], weights, entropies, strict=True):
        assert sample["routing_weights"] == pytest.approx(row.tolist())
        assert sample["primary_subspace"] == NAMES[int(row.argmax())]
        assert sample["primary_confidence"] == max(sample["routing_weights"])
        assert sample["entropy"] == pytest.approx(float(entropy), abs=1e-6)


@pytest.mark.parametrize("steering", [None, vectors(1)[0]], ids=["plain", "steered"])
def test_explanation_of_one_question(steering: Tensor | None) -> None:
    found = router(learned=True).explain(vectors(0)[0], steering, NAMES)
    assert found["samples"] == [{key: found[key] for key in found["samples"][0]}]


def test_a_certain_router_has_no_entropy() -> None:
    assert router(cosine_temperature=1e-4).explain(vectors(0), None, NAMES)["entropy"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cosine_logits", [True, False])
def test_a_loaded_router_routes_as_the_saved_one(cosine_logits: bool) -> None:
    saved = router(learned=True, cosine_logits=cosine_logits).eval()
    saved.temperature = 0.2
    loaded = SubspaceRouter(saved.config.model_dump()).eval()
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert torch.equal(loaded(vectors(0), vectors(1))[0], saved(vectors(0), vectors(1))[0])


def test_set_centroids_copies_them() -> None:
    made, centroids = router(), vectors(9, COUNT)
    made.set_centroids(centroids)
    before = made.centroids.clone()
    centroids.zero_()
    assert torch.equal(made.centroids, before)


def test_defaults_and_summary() -> None:
    assert {name: getattr(SubspaceRouterConfig(), name) for name in DOCUMENTED_DEFAULTS} == DOCUMENTED_DEFAULTS
    made = router()
    assert (made.embedding_dim, made.num_subspaces, made.temperature) == (DIM, COUNT, 1.0)
    assert f"total: {sum(each.numel() for each in made.parameters()):,}" in made.get_model_summary()


def test_unknown_keys_name_the_nearest() -> None:
    with pytest.raises(InputError, match=r"num_subspace.*unknown key(.|\n)*Did you mean 'num_subspaces'"):
        SubspaceRouter({"num_subspace": 4})
    with pytest.raises(InputError, match=r"unknown key\.\n  Known here: embedding_dim, "):
        SubspaceRouter({"zzz": 4})
    with pytest.raises(ValidationError, match="Extra inputs"):
        SubspaceRouterConfig(num_subspace=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "value", [{"num_subspaces": 1}, {"temperature": 0.0}, {"dropout": 1.0}, {"activation": "gelu"}]
)
def test_bad_values(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(value))):
        SubspaceRouter(value)


def test_error_messages() -> None:
    made, question = router(), vectors(0)
    with pytest.raises(ValueError, match=r"questions of width 5 for a router of width 6"):
        made(question[:, :5])
    with pytest.raises(ValueError, match=r"steering \[4, 6\] for questions \[5, 6\]"):
        made(question, question[:4])
    with pytest.raises(ValueError, match=r"centroids \[3, 6\] for a router of 4 subspaces"):
        made.set_centroids(vectors(7, 3))
    with pytest.raises(ValueError, match=r"centroids of width 5 for a router of width 6"):
        made(question, centroids=vectors(7, COUNT)[:, :5])
    with pytest.raises(ValueError, match=r"3 names for a router of 4 subspaces"):
        made.explain(question, None, NAMES[:3])
    with pytest.raises(ValueError, match=r"0 questions"):
        made.explain(question[:0], None, NAMES)
    with pytest.raises(ValueError, match=r"above 0, got 0"):
        made.temperature = 0.0
    with pytest.raises(ValueError, match=r"no centroids to compare with; call set_centroids"):
        SubspaceRouter({"embedding_dim": DIM})(question)
    with pytest.raises(ValueError, match=r"without cosine_logits compares with no centroids"):
        router(cosine_logits=False).set_centroids(vectors(7, COUNT))
