from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import RAG_supporters.nn as nn_names
import RAG_supporters.nn.inference as package_names
import RAG_supporters.nn.inference.xai_interface as module_names
from jasper_rag.explain.known_pairs import KnownPairs
from jasper_rag.explain.model_reading import Predictor
from jasper_rag.explain.xai_interface import ALIASES, VECTOR_KEYS, XAIInterface
from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.models.subspace_router import SubspaceRouter

DIM, COUNT, BATCH = 6, 4, 9
NAMES = ["north", "east", "south", "west"]
DOCUMENTED = {
    "predicted_source_emb",
    "primary_subspace",
    "confidence",
    "routing_distribution",
    "steering_influence",
    "atypicality",
    "similar_known_pairs",
    "actionable_signal",
}
ORIGINAL = {
    "prediction",
    "primary_subspace",
    "primary_confidence",
    "routing_distribution",
    "routing_entropy",
    "atypicality",
    "coarse_vector",
    "fine_vector",
    "steering_influence",
    "similar_pairs",
    "actionable_signal",
}
OURS = ["atypicality_quantile", "primary_subspace_id", "steering_shift"]
SIZES = {"embedding_dim": DIM, "hidden_dim": 8}
ROUTED = {**SIZES, "num_subspaces": COUNT, "router_hidden_dim": 7}


def vectors(seed: int, rows: int = BATCH) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


CENTROIDS, ASKED, STEERING = vectors(7, COUNT), vectors(1), vectors(2)
BANK = KnownPairs(
    vectors(3, 30).numpy(),
    [f"question {place}?" for place in range(30)],
    [f"q{place}" for place in range(30)],
    [f"s{place}" for place in range(30)],
    [f"Source {place}" for place in range(30)],
)


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


MODELS: dict[str, Callable[[], Predictor]] = {
    "subspaces": subspaces,
    "decomposed": decomposed,
    "base": base,
    "scaled": lambda: subspaces(normalize_output=True),
    "documented": lambda: decomposed(residual=False, linear_path=False, cosine_logits=False),
}


def kl(first: Tensor, second: Tensor) -> Tensor:
    return (first * (first / second).log()).sum(dim=-1)


@pytest.mark.parametrize("name", MODELS)
def test_every_key_is_there_and_plain(name: str) -> None:
    xai = XAIInterface(MODELS[name](), CENTROIDS, NAMES, known_pairs=BANK)
    found = xai.explain_prediction(ASKED[0], STEERING[0])
    assert set(found) == {*DOCUMENTED, *ORIGINAL, *OURS}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for alias, key in ALIASES.items():
        assert found[alias] is found[key]
    assert list(found["routing_distribution"]) == NAMES
    assert sum(found["routing_distribution"].values()) == pytest.approx(1, abs=1e-6)
    assert found["confidence"] == max(found["routing_distribution"].values())
    assert found["routing_distribution"][found["primary_subspace"]] == found["confidence"]
    assert NAMES[found["primary_subspace_id"]] == found["primary_subspace"]
    assert [len(pair) for pair in found["similar_known_pairs"]] == [6] * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steered", [False, True])
def test_a_row_of_a_batch_is_explained_as_alone(name: str, steered: bool) -> None:
    xai = XAIInterface(MODELS[name](), CENTROIDS, NAMES, known_pairs=BANK, num_similar_pairs=3)
    batch = xai.explain_batch(ASKED, STEERING if steered else None)
    assert len(batch) == BATCH
    for row, found in enumerate(batch):
        alone = xai.explain_prediction(ASKED[row : row + 1], STEERING[row] if steered else None)
        assert same(alone, found)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == pytest.approx(second, abs=2e-6)) if isinstance(first, float) else bool(first == second)


def column(found: list[dict[str, Any]], key: str) -> Tensor:
    return torch.tensor([each[key] for each in found])


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second.detach(), atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("nothing", [None, torch.zeros(DIM)])
def test_no_steering_has_no_influence(name: str, nothing: Tensor | None) -> None:
    for found in XAIInterface(MODELS[name](), CENTROIDS, NAMES).explain_batch(ASKED, nothing):
        assert found["steering_influence"] == found["steering_shift"] == 0
        assert "Steering" not in found["actionable_signal"]


def test_one_steering_serves_a_whole_batch() -> None:
    xai = XAIInterface(subspaces(), CENTROIDS, NAMES)
    assert same(xai.explain_batch(ASKED, STEERING[0]), xai.explain_batch(ASKED, STEERING[:1].expand(BATCH, -1)))
    assert all("Steering" in each["actionable_signal"] for each in xai.explain_batch(ASKED, STEERING[0]))


def test_atypicality_is_placed_among_the_reference() -> None:
    plain = XAIInterface(subspaces(), CENTROIDS, NAMES)
    values = plain.atypicalities(ASKED)
    reference = np.sort(values)
    found = XAIInterface(subspaces(), CENTROIDS, NAMES, atypicality_reference=reference).explain_batch(ASKED, STEERING)
    expected = [(values <= value).mean() for value in values]
    assert [each["atypicality_quantile"] for each in found] == pytest.approx(expected, abs=1e-6)
    assert plain.explain_prediction(ASKED[0])["atypicality_quantile"] is None
    unusual = max(found, key=lambda each: float(each["atypicality"]))
    assert "More unusual than all training questions" in unusual["actionable_signal"]


def test_similar_pairs_are_the_nearest_questions() -> None:
    xai = XAIInterface(base(), CENTROIDS, NAMES, known_pairs=BANK, num_similar_pairs=2)
    cosines = ASKED.numpy() @ BANK.questions.T
    for row, found in enumerate(xai.explain_batch(ASKED)):
        best = np.argsort(-cosines[row])[:2]
        pairs = found["similar_known_pairs"]
        assert [pair["index"] for pair in pairs] == best.tolist()
        assert [pair["question"] for pair in pairs] == [f"question {place}?" for place in best]
        assert [pair["similarity"] for pair in pairs] == pytest.approx(cosines[row][best], abs=1e-6)
    none = XAIInterface(base(), CENTROIDS, NAMES, known_pairs=BANK, num_similar_pairs=0)
    assert none.explain_prediction(ASKED[0])["similar_known_pairs"] == []


def test_pairs_of_the_original_project_are_taken() -> None:
    triples = [(torch.from_numpy(row), torch.zeros(DIM), torch.ones(DIM)) for row in BANK.questions]
    found = XAIInterface(base(), CENTROIDS, NAMES, triples).explain_prediction(ASKED[0])
    assert len(found["similar_pairs"]) == 5
    assert XAIInterface(base(), CENTROIDS, NAMES, []).explain_prediction(ASKED[0])["similar_pairs"] == []


def test_compact_leaves_the_vectors_out() -> None:
    xai = XAIInterface(subspaces(), CENTROIDS, NAMES, known_pairs=BANK)
    full, compact = xai.explain_batch(ASKED), xai.explain_batch(ASKED, vectors=False)
    kept = [{key: value for key, value in each.items() if key not in VECTOR_KEYS} for each in full]
    assert compact == kept


def test_arrays_are_as_good_as_tensors() -> None:
    xai = XAIInterface(subspaces(), CENTROIDS, NAMES)
    assert xai.explain_batch(ASKED.numpy(), STEERING.numpy()) == xai.explain_batch(ASKED, STEERING)


def test_steerings_are_compared_with_the_first() -> None:
    model = subspaces().eval()
    xai = XAIInterface(model, CENTROIDS, NAMES)
    found = xai.compare_steering_influence(ASKED[0], [None, STEERING[0], STEERING[1:2]], ["none", "a", "b"])
    steering = torch.stack([torch.zeros(DIM), STEERING[0], STEERING[1]])
    parts = model.decompose(ASKED[:1].expand(3, -1), steering, training=False)
    close(torch.tensor(found["routing_matrices"]), parts.routing_weights)
    close(torch.tensor(found["predictions"]), parts.prediction)
    close(torch.tensor(found["atypicalities"]), parts.atypicality)
    weights, prediction = parts.routing_weights, parts.prediction
    close(torch.tensor(found["routing_kl_from_first"]), kl(weights[1:], weights[0]))
    close(torch.tensor(found["prediction_shift_from_first"]), (prediction[1:] - prediction[0]).norm(dim=1))
    assert found["labels"] == ["none", "a", "b"]
    assert found["primary_subspaces"] == [NAMES[row] for row in weights.argmax(dim=1)]
    single = xai.compare_steering_influence(ASKED[0], [STEERING[0]])
    assert (single["labels"], single["routing_kl_from_first"]) == (["steering_0"], [])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_equal_names_are_told_apart() -> None:
    xai = XAIInterface(subspaces(), CENTROIDS, ["north", "east", "north", "north"])
    assert xai.cluster_names == ("north", "east", "north #3", "north #4")
    assert len(xai.explain_prediction(ASKED[0])["routing_distribution"]) == COUNT


def test_a_zero_question_is_explained() -> None:
    (found,) = XAIInterface(subspaces(), CENTROIDS, NAMES, known_pairs=BANK).explain_batch(torch.zeros(1, DIM))
    assert json.dumps(found, allow_nan=False)


NAN = ASKED.clone()
NAN[3, 1] = torch.nan


@pytest.mark.parametrize(
    ("asked", "steering", "message"),
    [
        (ASKED[:, :5], None, r"questions \[9, 5\], where \[B, 6\]"),
        (ASKED[:0], None, r"questions \[0, 6\]"),
        (ASKED[None], None, r"questions \[1, 9, 6\]"),
        (NAN, None, r"1 of 9 rows of questions are not finite, the first is row 3"),
        (ASKED, STEERING[:2], r"steering of 2 rows for 9 questions"),
        (ASKED, STEERING[:, :3], r"steering \[9, 3\], where \[B, 6\]"),
        (ASKED, NAN, r"1 of 9 rows of steering are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(asked: Tensor, steering: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XAIInterface(subspaces(), CENTROIDS, NAMES).explain_batch(asked, steering)


@pytest.mark.parametrize(
    ("model", "centroids", "options", "message"),
    [
        (subspaces, CENTROIDS, {"cluster_names": NAMES[:3]}, r"3 names for 4 centroids"),
        (subspaces, CENTROIDS[:3], {}, r"centroids \[3, 6\] for a predictor with centroids \[4, 6\]"),
        (subspaces, -CENTROIDS, {}, r"centroids differ by up to"),
        (decomposed, CENTROIDS[:3], {}, r"centroids \[3, 6\] for a router of 4 subspaces"),
        (base, CENTROIDS[:, :5], {}, r"centroids \[4, 5\] for a predictor of width 6"),
        (base, None, {}, r"needs centroids \[K, 6\], got None"),
        (base, NAN, {}, r"1 of 9 centroids are not finite"),
        (base, CENTROIDS, {"router": SubspaceRouter({"embedding_dim": DIM, "num_subspaces": 3})}, r"router of 3"),
        (base, CENTROIDS, {"num_similar_pairs": -1}, r"got -1"),
        (
            base,
            CENTROIDS,
            {"known_pairs": KnownPairs(np.ones((2, 5), dtype=np.float32))},
            r"width 5 for a model of width 6",
        ),
        (base, CENTROIDS, {"known_pairs": BANK, "training_pairs": [(ASKED[0],) * 3]}, r"1 training_pairs beside 30"),
        (base, CENTROIDS, {"atypicality_reference": np.array([2.0, 1.0])}, r"got 2.0 before 1.0"),
        (base, CENTROIDS, {"atypicality_reference": np.zeros(0)}, r"got \[0\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(model: Any, centroids: Any, options: dict[str, Any], message: str) -> None:
    made: Predictor = model()
    with pytest.raises(ValueError, match=message):
        XAIInterface(made, centroids, **{"cluster_names": NAMES, **options})


def test_one_question_means_one() -> None:
    xai = XAIInterface(subspaces(), CENTROIDS, NAMES)
    with pytest.raises(ValueError, match=r"9 questions to explain_prediction"):
        xai.explain_prediction(ASKED)
    with pytest.raises(ValueError, match=r"got 1 and 0"):
        xai.compare_steering_influence(ASKED[0], [])
    with pytest.raises(ValueError, match=r"got 9 and 1"):
        xai.compare_steering_influence(ASKED, [None])
    with pytest.raises(ValueError, match=r"1 labels for 2 steerings"):
        xai.compare_steering_influence(ASKED[0], [None, None], ["a"])


def test_the_documented_paths_lead_here() -> None:
    assert nn_names.XAIInterface is package_names.XAIInterface is module_names.XAIInterface is XAIInterface
