from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.losses import unit_rows as module
from jasper_rag.losses.unit_rows import UnitRows, full_precision, unit_rows, widened


def test_half_precision_is_widened_and_the_rest_left() -> None:
    for dtype, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert widened(torch.ones(1, dtype=dtype)).dtype == expected
        assert unit_rows(torch.ones(1, 2, dtype=dtype)).dtype == expected


def test_autocast_is_off_inside() -> None:
    one = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        with full_precision(one):
            assert (one @ one).dtype == torch.float32


def test_normalises_once_until_the_tensor_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def counted(vectors: Tensor) -> Tensor:
        calls.append(vectors)
        return unit_rows(vectors)

    monkeypatch.setattr(module, "unit_rows", counted)
    memory, vectors = UnitRows(), torch.randn(5, 3)
    first = memory(vectors)
    torch.testing.assert_close(first, functional.normalize(vectors, dim=1))
    assert memory(vectors) is first
    assert len(calls) == 1
    vectors[0] = 1.0
    torch.testing.assert_close(memory(vectors), functional.normalize(vectors, dim=1))
    other = torch.randn(5, 3)
    torch.testing.assert_close(memory(other), functional.normalize(other, dim=1))
    assert len(calls) == 3


def test_unit_vectors_are_not_copied() -> None:
    vectors = functional.normalize(torch.randn(50, 16), dim=1)
    assert UnitRows()(vectors) is vectors
    nearly = vectors * 1.0001
    assert UnitRows()(nearly) is not nearly


def test_gradient_passes_through() -> None:
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(UnitRows(), vectors)


def test_inference_mode_is_served_and_not_remembered() -> None:
    memory = UnitRows()
    with torch.inference_mode():
        vectors = torch.randn(4, 3)
        torch.testing.assert_close(memory(vectors), unit_rows(vectors))
        vectors[0] = 1.0
        torch.testing.assert_close(memory(vectors), unit_rows(vectors))
    torch.testing.assert_close(memory(vectors), unit_rows(vectors))


def test_copies_carry_no_vectors() -> None:
    memory = UnitRows()
    memory(torch.randn(1000, 100))
    assert len(pickle.dumps(memory)) < 200
    assert copy.deepcopy(memory)._given is None


def test_lengths_are_looked_at_on_the_cpu_only() -> None:
    # A meta tensor has no values to look at.
    assert UnitRows()(torch.empty(4, 3, device="meta")).shape == (4, 3)
