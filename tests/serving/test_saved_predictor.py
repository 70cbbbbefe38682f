from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.serving.saved_predictor import predictor_description, predictor_of

D, K = 6, 3
SETTINGS: dict[str, Any] = {"embedding_dim": D, "hidden_dim": 4}


def routed() -> SubspacePredictor:
    return SubspacePredictor(SETTINGS | {"num_subspaces": K}, torch.nn.functional.normalize(torch.randn(K, D)))


def through_files(model: Predictor, folder: Path) -> Predictor:
    save_file(model.state_dict(), folder / "predictor.safetensors")
    description = json.loads(json.dumps(predictor_description(model)))
    return predictor_of(description, load_file(folder / "predictor.safetensors"))


@pytest.mark.parametrize("model", [JASPERPredictor(SETTINGS), routed()])
def test_it_comes_back_as_it_was(model: Predictor, tmp_path: Path) -> None:
    again = through_files(model, tmp_path)
    assert type(again) is type(model)
    assert not again.training
    assert again.config == model.config
    questions = torch.randn(4, D)
    with torch.no_grad():
        assert torch.equal(again(questions, questions), model.eval()(questions, questions))
    if isinstance(model, SubspacePredictor) and isinstance(again, SubspacePredictor):
        assert torch.equal(again.centroids, model.centroids)
        assert torch.equal(again.parts(questions).routing_weights, model.parts(questions).routing_weights)


def test_older_models_are_plain() -> None:
    model = JASPERPredictor(SETTINGS)
    assert isinstance(predictor_of(model.config.model_dump(), model.state_dict()), JASPERPredictor)


@pytest.mark.parametrize(
    ("changes", "dropped", "said"),
    [
        ({"kind": "sparse"}, "", "kind 'sparse'; known are 'plain' and 'subspace'"),
        ({}, "centroids", "without their centroids"),
        ({"num_subspaces": 5}, "", "router of 5 subspaces"),
        ({"width": 5}, "", "width"),
        ({}, "decomposed.question_map.weight", "Missing key"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], dropped: str, said: str) -> None:
    model = routed()
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != dropped}
    with pytest.raises((ValueError, RuntimeError), match=said):
        predictor_of(predictor_description(model) | changes, tensors)
