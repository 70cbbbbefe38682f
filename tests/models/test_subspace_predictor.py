from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.models.subspace_router import SubspaceRouter
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig

DIM, COUNT, BATCH = 6, 4, 5
SIZES = {"embedding_dim": DIM, "hidden_dim": 8, "router_hidden_dim": 7, "num_subspaces": COUNT}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"mlp": False},
    {"residual": False},
    {"residual": False, "linear_path": False, "cosine_logits": False},
    {"router_argmax": True, "fine_input_mode": "add"},
]


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


CENTROIDS = vectors(7, COUNT)


def randomised(module: torch.nn.Module, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)


def learned(**changes: Any) -> SubspacePredictor:
    """With weights of its own, whatever the global random state."""
    made = SubspacePredictor({**SIZES, **changes}, CENTROIDS)
    randomised(made)
    return made.eval()


@pytest.mark.parametrize("steering", [None, vectors(1)], ids=["plain", "steered"])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_parts_sum_to_the_prediction(variant: dict[str, Any], normalised: bool, steering: Tensor | None) -> None:
    model, questions = learned(**variant, normalize_output=normalised), vectors(0)
    found = model.parts(questions, steering)
    with torch.no_grad():
        prediction, plain = model(questions, steering), model.decompose(questions)
    total = found.question + found.coarse + found.fine + found.steering
    torch.testing.assert_close(total, prediction, atol=1e-6, rtol=0)
    assert not any(part.requires_grad for part in found)
    # By hand: what is particular to the question, and how long all that is not coarse is.
    raw = found.routing_weights @ CENTROIDS
    length = (raw + plain.fine).norm(dim=1, keepdim=True) if normalised else torch.ones(BATCH, 1)
    torch.testing.assert_close(found.coarse * length, raw, atol=1e-6, rtol=0)
    expected = questions - raw if variant.get("residual", True) else torch.zeros(BATCH, DIM)
    torch.testing.assert_close(found.question * length, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.atypicality, ((found.question + found.fine) * length).norm(dim=1))
    torch.testing.assert_close(found.steering, prediction - plain.prediction, atol=1e-6, rtol=0)
    assert bool(found.steering.any()) == (steering is not None)


def test_it_is_asked_like_a_plain_predictor() -> None:
    model, questions, steering = learned(), vectors(0), vectors(1)
    expected = model.decomposed(questions, steering, CENTROIDS)[0]
    torch.testing.assert_close(model(questions, steering), expected)
    torch.testing.assert_close(model(questions), model(questions, torch.zeros(BATCH, DIM)))
    assert (model.embedding_dim, model.num_subspaces, model.steers) == (DIM, COUNT, True)
    assert not SubspacePredictor(SIZES, CENTROIDS).steers
    assert "DecomposedJASPERPredictor" in model.get_model_summary()


def linear(**changes: Any) -> JASPERPredictor:
    made = JASPERPredictor(JASPERPredictorConfig(**{"embedding_dim": DIM, "mlp": False, **changes}))
    randomised(made)
    return made.eval()


def router(**changes: Any) -> SubspaceRouter:
    config = {"embedding_dim": DIM, "num_subspaces": COUNT, "hidden_dim": 9, "num_layers": 3, "temperature": 0.7}
    made = SubspaceRouter(SubspaceRouterConfig(**{**config, **changes}))
    randomised(made, 8)
    if made.config.cosine_logits:
        made.set_centroids(CENTROIDS)
    return made.eval()


@pytest.mark.parametrize("changes", [{}, {"normalize_output": True}, {"linear_path": False}], ids=str)
@pytest.mark.parametrize(
    "routed", [{}, {"cosine_logits": False, "activation": "ReLU", "use_layer_norm": False}, {"argmax": True}], ids=str
)
def test_a_linear_predictor_predicts_the_same(changes: dict[str, Any], routed: dict[str, Any]) -> None:
    predictor, beside, questions, steering = linear(**changes), router(**routed), vectors(0), vectors(1)
    joined = SubspacePredictor.of_linear(predictor, beside, CENTROIDS)
    assert not joined.training
    assert joined.router.config == beside.config
    with torch.no_grad():
        for given in (None, steering):
            torch.testing.assert_close(joined(questions, given), predictor(questions, given), atol=1e-6, rtol=0)
        torch.testing.assert_close(joined.parts(questions, steering).routing_weights, beside(questions)[0])
        # Copies: what happens to the joined one does not reach the others.
        before = predictor(questions).clone(), beside(questions)[0].clone()
        randomised(joined, 11)
        torch.testing.assert_close((predictor(questions), beside(questions)[0]), before)


def test_a_router_beside_has_the_centroids_of_the_predictor() -> None:
    bare = SubspaceRouter(SubspaceRouterConfig(embedding_dim=DIM, num_subspaces=COUNT))
    joined = SubspacePredictor.of_linear(linear(), bare, CENTROIDS)
    torch.testing.assert_close(joined.router.centroids, CENTROIDS)
    assert joined.router.get_primary_subspace(CENTROIDS)[0].tolist() == list(range(COUNT))


@pytest.mark.parametrize(
    ("changes", "message"), [({"mlp": True}, "with MLPs"), ({"residual": False}, "without a residual path")]
)
def test_what_is_no_sum_of_linear_paths_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubspacePredictor.of_linear(linear(**changes), router(), CENTROIDS)


@pytest.mark.parametrize("normalised", [False, True])
def test_everything_is_in_the_state(normalised: bool) -> None:
    model = learned(normalize_output=normalised)
    again = SubspacePredictor(model.config, torch.zeros(COUNT, DIM))
    again.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    torch.testing.assert_close(again.eval().parts(vectors(0), vectors(1)), model.parts(vectors(0), vectors(1)))
    torch.testing.assert_close(again.centroids, CENTROIDS)
    assert "centroids" not in dict(model.named_parameters())


def test_the_centroids_are_a_copy() -> None:
    given = CENTROIDS.clone()
    model = SubspacePredictor(SIZES, given)
    given.zero_()
    torch.testing.assert_close(model.centroids, CENTROIDS)
    torch.testing.assert_close(model.router.centroids, CENTROIDS)


@pytest.mark.parametrize("training", [True, False])
def test_parts_neither_need_nor_change_the_mode(training: bool) -> None:
    model, questions = learned(dropout=0.5), vectors(0)
    expected = model.parts(questions, vectors(1))
    model.train(training)
    torch.testing.assert_close(model.parts(questions, vectors(1)), expected)
    assert all(module.training == training for module in model.modules())
    with pytest.raises(ValueError, match="width 3"):
        model.parts(questions[:, :3])
    assert all(module.training == training for module in model.modules())


def test_decompose_has_gradients_for_every_parameter() -> None:
    model = learned(residual=False)
    found = model.decompose(vectors(0), vectors(1))
    (found.prediction.square().sum() + found.routing_weights.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.centroids.requires_grad


@pytest.mark.parametrize(
    ("centroids", "message"),
    [(torch.zeros(3, DIM), r"\[3, 6\] for a router of 4"), (torch.zeros(COUNT, 5), "width 5"), (torch.zeros(4), "4")],
)
def test_centroids_must_fit(centroids: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubspacePredictor(SIZES, centroids)
