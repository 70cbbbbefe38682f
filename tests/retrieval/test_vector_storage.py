from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.retrieval import vector_storage
from jasper_rag.retrieval.vector_storage import STORAGES, Int8Storage, storage_named


@given(
    name=st.sampled_from(STORAGES),
    seed=st.integers(0, 1000),
    dimension=st.sampled_from([1, 3, 32, 100]),
    queries=st.sampled_from([1, 12, 13]),
    size=st.sampled_from([1e-3, 1.0, 300.0]),
)
def test_no_score_is_further_off_than_the_bound_says(
    name: str, seed: int, dimension: int, queries: int, size: float
) -> None:
    generator = np.random.default_rng(seed)
    vectors = (size * generator.standard_normal((40, dimension))).astype(np.float32)
    vectors[0] = 0
    vectors[1, 1:] = 0
    asked = generator.standard_normal((queries, dimension)).astype(np.float32)
    storage = storage_named(name, dimension)
    stored = storage.encode(vectors)
    decoded = storage.decode(stored).astype(np.float64)
    scores = np.empty((queries, 40), dtype=np.float32)
    storage.scores(asked, stored, scores)
    rounding = storage.rounding(asked)[:, None] * np.linalg.norm(decoded, axis=1)
    assert (np.abs(scores - asked @ decoded.T) <= rounding + 1e-30).all()
    residual = np.linalg.norm(vectors - decoded, axis=1)
    bound = rounding + np.linalg.norm(asked, axis=1, keepdims=True) * residual
    assert (np.abs(scores - asked.astype(np.float64) @ vectors.T) <= bound * (1 + 1e-6) + 1e-30).all()
    assert (
        residual <= {"float32": 0, "float16": 6e-4, "int8": 0.51 / 127 * dimension**0.5 + 2e-3}[name] * size * 5
    ).all()
    assert (scores[:, 0] == 0).all()


def test_int8_uses_one_byte_per_dimension_and_the_whole_range() -> None:
    vectors = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    storage = Int8Storage(16)
    codes, scales = storage.encode(vectors)
    assert (str(codes.dtype), codes.shape, str(scales.dtype)) == ("int8", (20, 16), "int16")
    assert np.abs(codes).max(axis=1).min() >= 126
    # The bits are those of bfloat16 numbers, never below what the largest component needs.
    as_torch = torch.from_numpy(scales).view(torch.bfloat16).float().numpy()
    needed = np.abs(vectors).max(axis=1) / 127
    assert ((as_torch >= needed) & (as_torch <= needed * (1 + 2.0**-7))).all()
    np.testing.assert_array_equal(storage.decode((codes, scales)), codes * as_torch[:, None])


def test_the_kernel_is_never_given_what_it_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads whole aligned groups of numbers and counts bytes in 32 bits: elsewhere it would leave the array."""
    monkeypatch.setattr(vector_storage, "_KERNEL_BYTES", 32 * 16)
    kernel, calls = torch.ops.aten._weight_int8pack_mm, []

    def checked(asked: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        assert asked.shape[1] == codes.shape[1] == 32
        assert codes.data_ptr() % 16 == 0
        assert len(codes) % 4 == 0
        calls.append(len(codes))
        return torch.as_tensor(kernel(asked, codes, scales))

    monkeypatch.setattr(torch.ops.aten, "_weight_int8pack_mm", checked)
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((47, 24)).astype(np.float32)
    asked = generator.standard_normal((2, 24)).astype(np.float32)
    storage = Int8Storage(24)
    codes, bits = storage.encode(vectors)
    expected = asked @ storage.decode((codes, bits)).T
    unaligned = np.empty(codes.size + 1, dtype=np.int8)[1:].reshape(codes.shape)
    unaligned[:] = codes
    for stored in (codes, unaligned):
        scores = np.empty((2, 47), dtype=np.float32)
        storage.scores(asked, (stored, bits), scores)
        np.testing.assert_allclose(scores, expected, atol=0.1)
    assert calls == [16, 16, 12]


def test_an_unknown_storage_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown storage 'int4'(.|\n)*float32, float16, int8"):
        storage_named("int4", 3)
