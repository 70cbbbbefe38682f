from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.explain.model_reading import PROXY_TEMPERATURE, Predictor
from jasper_rag.explain.xai_interface import XAIInterface
from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.models.subspace_router import SubspaceRouter

DIM, COUNT, BATCH = 6, 4, 9
NAMES = ["north", "east", "south", "west"]
SIZES = {"embedding_dim": DIM, "hidden_dim": 8}
ROUTED = {**SIZES, "num_subspaces": COUNT, "router_hidden_dim": 7}


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


CENTROIDS, ASKED, STEERING = vectors(7, COUNT), vectors(1), vectors(2)


def learned(module: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def subspaces(**changes: Any) -> SubspacePredictor:
    made: SubspacePredictor = learned(SubspacePredictor({**ROUTED, **changes}, CENTROIDS))
    return made


def decomposed(**changes: Any) -> DecomposedJASPERPredictor:
    made: DecomposedJASPERPredictor = learned(DecomposedJASPERPredictor({**ROUTED, **changes}))
    return made


def base(**changes: Any) -> JASPERPredictor:
    made: JASPERPredictor = learned(JASPERPredictor({**SIZES, **changes}))
    return made


def router() -> SubspaceRouter:
    made: SubspaceRouter = learned(
        SubspaceRouter({"embedding_dim": DIM, "hidden_dim": 5, "num_subspaces": COUNT, "temperature": 1.7})
    )
    return made


MODELS: dict[str, Callable[[], Predictor]] = {
    "subspaces": subspaces,
    "decomposed": decomposed,
    "base": base,
    "scaled": lambda: subspaces(normalize_output=True),
    "documented": lambda: decomposed(residual=False, linear_path=False, cosine_logits=False),
}


def column(found: list[dict[str, Any]], key: str) -> Tensor:
    return torch.tensor([each[key] for each in found])


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second.detach(), atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", ["subspaces", "decomposed", "scaled", "documented"])
def test_coarse_and_fine_sum_to_the_prediction(name: str) -> None:
    found = XAIInterface(MODELS[name](), CENTROIDS, NAMES).explain_batch(ASKED, STEERING)
    close(column(found, "coarse_vector") + column(found, "fine_vector"), column(found, "predicted_source_emb"))


def test_a_plain_predictor_is_routed_by_the_cosines_of_its_prediction() -> None:
    model = base().eval()
    found = XAIInterface(model, CENTROIDS, NAMES).explain_batch(ASKED)
    prediction = model(ASKED)
    cosines = functional.cosine_similarity(prediction[:, None], CENTROIDS[None], dim=-1)
    weights = functional.softmax(cosines / PROXY_TEMPERATURE, dim=-1)
    close(column(found, "confidence"), weights.amax(dim=1))
    close(column(found, "atypicality"), (prediction[:, None] - CENTROIDS).norm(dim=-1).amin(dim=1))
    assert [each["coarse_vector"] for each in found] == [None] * BATCH == [each["fine_vector"] for each in found]


@pytest.mark.parametrize("name", ["subspaces", "decomposed", "base"])
def test_a_calibrated_router_says_how_likely_each_topic_is(name: str) -> None:
    calibrated = router()
    found = XAIInterface(MODELS[name](), CENTROIDS, NAMES, router=calibrated).explain_batch(ASKED, STEERING)
    calibrated.eval()
    logits = calibrated(ASKED, STEERING, centroids=CENTROIDS)[1]
    expected = functional.softmax(logits / 1.7, dim=-1)
    close(torch.tensor([list(each["routing_distribution"].values()) for each in found]), expected)
    close(column(found, "coarse_vector") + column(found, "fine_vector"), column(found, "predicted_source_emb"))
    if name == "base":
        close(column(found, "coarse_vector"), expected @ CENTROIDS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_the_callers_model_stays_as_it_is(name: str, training: bool) -> None:
    model = MODELS[name]()
    model.train(training)
    calibrated = router().train(training)
    next(model.children()).train(not training)
    modes = [each.training for each in model.modules()]
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    xai = XAIInterface(model, CENTROIDS, NAMES, router=calibrated)
    xai.explain_batch(ASKED, STEERING)
    assert [each.training for each in model.modules()] == modes
    assert calibrated.training is training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    inner = model.decomposed if isinstance(model, SubspacePredictor) else model
    assert inner.get_latent_representations() == {}
    assert torch.equal(random_state, torch.get_rng_state())


def test_an_explanation_follows_the_training() -> None:
    model = subspaces()
    xai = XAIInterface(model, None, NAMES)
    before = xai.explain_prediction(ASKED[0])["predicted_source_emb"]
    with torch.no_grad():
        model.decomposed.question_map.weight.mul_(2)
    after = xai.explain_prediction(ASKED[0])["predicted_source_emb"]
    assert before != after
    close(torch.tensor(after), model.eval()(ASKED[:1])[0])


def test_another_device_gets_a_copy() -> None:
    model = subspaces()
    xai = XAIInterface(model, None, NAMES, device="meta")
    assert {each.device.type for each in model.parameters()} == {"cpu"}
    assert xai._reader.device.type == "meta"
    assert {each.device.type for each in xai._reader._model.parameters()} == {"meta"}


def kl(first: Tensor, second: Tensor) -> Tensor:
    return (first * (first / second).log()).sum(dim=-1)


def test_a_decomposed_prediction_is_what_the_model_says() -> None:
    model = decomposed().eval()
    prediction, parts = model(ASKED, STEERING, CENTROIDS)
    plain = model(ASKED, None, CENTROIDS)
    found = XAIInterface(model, CENTROIDS, NAMES).explain_batch(ASKED, STEERING)
    close(column(found, "predicted_source_emb"), prediction)
    close(column(found, "coarse_vector"), parts["coarse"])
    close(column(found, "fine_vector"), parts["fine"])
    weights = torch.tensor([list(each["routing_distribution"].values()) for each in found])
    close(weights, parts["routing_weights"])
    close(column(found, "routing_entropy"), torch.special.entr(parts["routing_weights"]).sum(dim=1))
    close(column(found, "atypicality"), plain[1]["atypicality"])
    close(column(found, "steering_influence"), kl(parts["routing_weights"], plain[1]["routing_weights"]))
    close(column(found, "steering_shift"), (prediction - plain[0]).norm(dim=1))
