from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.export import standalone_predictor
from jasper_rag.export.numpy_predictor import LOADER, SETTINGS, TENSORS, write_numpy
from jasper_rag.jasper import Jasper


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_predictor_is_transform(
    with_guard: Callable[..., Jasper], questions: Vectors, tmp_path: Path, alpha: float, gated: bool
) -> None:
    jasper = with_guard(alpha, gated)
    assert write_numpy(jasper, tmp_path) <= 1e-6
    moved = standalone_predictor.Predictor(tmp_path).transform(questions)
    np.testing.assert_allclose(moved, jasper.transform(questions), rtol=0, atol=1e-6)
    if alpha == 0:
        np.testing.assert_array_equal(moved, questions)


def test_what_is_written(fitted: Jasper, tmp_path: Path) -> None:
    write_numpy(fitted, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, SETTINGS, LOADER}
    assert (tmp_path / LOADER).read_bytes() == Path(standalone_predictor.__file__).read_bytes()
    settings = json.loads((tmp_path / SETTINGS).read_text(encoding="utf-8"))
    guard = fitted.model.guard
    assert guard.gate is not None
    assert settings["alpha"] == guard.alpha
    assert settings["dimension"] == 24
    assert settings["encoder"]["name"] == "words-0"
    assert settings["gate"] == {"low": guard.gate.low, "high": guard.gate.high, "neighbours": 5}
    tensors = load_file(tmp_path / TENSORS)
    np.testing.assert_array_equal(tensors["bank"], guard.gate.bank)
    assert tensors["matrix"].shape == (24, 24)


def test_without_a_gate_there_is_no_bank(with_guard: Callable[..., Jasper], tmp_path: Path) -> None:
    write_numpy(with_guard(0.5, gated=False), tmp_path)
    assert set(load_file(tmp_path / TENSORS)) == {"matrix"}
    assert json.loads((tmp_path / SETTINGS).read_text(encoding="utf-8"))["gate"] is None


def test_a_predictor_that_differs_does_not_count(
    fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone_predictor, "unit", lambda vectors: vectors)
    with pytest.raises(InputError, match="the numpy predictor would differ"):
        write_numpy(fitted, tmp_path)
