from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.export.query_map import agreement, probe_questions, query_map
from jasper_rag.jasper import Jasper
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.training.predictor_training import predict


def with_predictor(jasper: Jasper, **paths: bool) -> Jasper:
    """The model with a predictor of these paths and random weights."""
    predictor = JASPERPredictor(JASPERPredictorConfig(embedding_dim=24, **paths))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.normal_(generator=generator)
    return Jasper(dataclasses.replace(jasper.model, predictor=predictor.eval()))


@pytest.mark.parametrize(("residual", "linear_path"), [(True, True), (True, False), (False, True)])
def test_the_matrix_is_the_predictor(fitted: Jasper, questions: Vectors, residual: bool, linear_path: bool) -> None:
    jasper = with_predictor(fitted, residual=residual, linear_path=linear_path, mlp=False)
    exported = query_map(jasper)
    assert exported.matrix.dtype == np.float32
    np.testing.assert_allclose(questions @ exported.matrix, predict(jasper.model.predictor, questions), atol=1e-5)
    assert exported.dimension == 24
    assert exported.identity == fitted.model.identity


def test_a_predictor_with_an_mlp_is_refused(fitted: Jasper) -> None:
    with pytest.raises(InputError, match="has an MLP") as caught:
        query_map(with_predictor(fitted, mlp=True))
    assert caught.value.field == "predictor.mlp"
    assert "Jasper.transform" in caught.value.remedy


def test_an_idle_gate_is_left_behind(with_guard: Callable[..., Jasper]) -> None:
    assert query_map(with_guard(0.0)).gate is None
    assert query_map(with_guard(0.5, gated=False)).gate is None
    assert query_map(with_guard(0.5)).gate is not None


def test_probes_reach_every_state_of_the_gate(fitted: Jasper, with_guard: Callable[..., Jasper]) -> None:
    probes = probe_questions(fitted)
    assert probes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(probes, axis=1), 1, atol=1e-5)
    gate = fitted.model.guard.gate
    assert gate is not None
    opened = gate.openness(probes)
    assert opened.min() == 0
    assert opened.max() == 1
    assert ((opened > 0) & (opened < 1)).any()
    assert len(probe_questions(with_guard(1.0, gated=False))) < len(probes)


def test_agreement_is_the_largest_difference() -> None:
    expected = np.zeros((2, 3), dtype=np.float32)
    assert agreement(expected + np.float32(2e-6), expected, "it") == pytest.approx(2e-6)
    assert agreement(expected[:0], expected[:0], "it") == 0
    with pytest.raises(InputError, match=r"the graph would differ from this model by up to 1\.0e-04; at most 1e-05"):
        agreement(expected + np.float32(1e-4), expected, "the graph")
    with pytest.raises(InputError, match="nan"):
        agreement(expected * np.float32("nan"), expected, "the graph")
