from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.embedding.encoder import (
    CallableEncoder,
    Encoder,
    PrecomputedEncoder,
    Role,
    Vectors,
    as_encoder,
    identity_of,
)
from jasper_rag.errors import InputError

VECTORS = np.array([[3.0, 4.0], [0.0, -2.0]])
UNIT = np.array([[0.6, 0.8], [0.0, -1.0]], dtype=np.float32)


def lengths(texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([[len(text), 1.0, text.count("e")] for text in texts])


class ByRole:
    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        column = 0 if role == "query" else 1
        return np.eye(2, dtype=np.float32)[[column] * len(texts)]


class ByMethod:
    def encode(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0]] * len(texts)

    def encode_query(self, texts: list[str]) -> list[list[float]]:
        return [[0.0, 2.0]] * len(texts)

    def encode_document(self, texts: list[str]) -> list[list[float]]:
        return [[3.0, 0.0]] * len(texts)


class Plain:
    def encode(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 1.0]] * len(texts)


def test_an_encoder_passes_unchanged() -> None:
    encoder = ByRole()
    assert as_encoder(encoder) is encoder


@pytest.mark.parametrize("values", [VECTORS, VECTORS.tolist(), VECTORS.astype(np.float16), torch.tensor(VECTORS)])
def test_a_function_is_wrapped_and_normalised(values: object) -> None:
    vectors = as_encoder(lambda texts: values).encode(["a", "b"], "query")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, UNIT, atol=1e-3)


def test_tensors_with_gradient_and_half_precision_are_accepted() -> None:
    tensor = torch.tensor(VECTORS, dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_allclose(CallableEncoder(lambda _: tensor).encode(["a", "b"], "query"), UNIT, atol=1e-2)


def test_tiny_and_huge_vectors_keep_their_direction() -> None:
    vectors = CallableEncoder(lambda _: VECTORS * np.array([[1e-30], [1e30]])).encode(["a", "b"], "query")
    np.testing.assert_allclose(vectors, UNIT, atol=1e-6)


def test_objects_with_methods_per_role_keep_them_apart() -> None:
    encoder = as_encoder(ByMethod())
    np.testing.assert_array_equal(encoder.encode(["a"], "query"), [[0.0, 1.0]])
    np.testing.assert_array_equal(encoder.encode(["a"], "document"), [[1.0, 0.0]])
    np.testing.assert_allclose(as_encoder(Plain()).encode(["a"], "document"), [[0.5**0.5] * 2])


def test_no_texts_do_not_call_the_function() -> None:
    def fail(texts: list[str]) -> list[list[float]]:
        raise AssertionError(texts)

    assert CallableEncoder(fail).encode([], "query").shape == (0, 0)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[1.0, np.nan], [1, 0]], r"NaN or infinity for text 0 \('first'\)"),
        ([[1.0, 0.0], [0, np.inf]], r"NaN or infinity for text 1"),
        ([[1.0, 0.0], [0, 0]], r"zeros for text 1 \('second'\)"),
        ([[1.0, 0.0]], r"shape \[1, 2\] for 2 texts"),
        ([1.0, 2.0], r"shape \[2\] for 2 texts"),
        (np.zeros((2, 0)), r"shape \[2, 0\]"),
        ([[1.0], [1.0, 2.0]], "unequal shape"),
        ([["a"], ["b"]], "holding <U1"),
        (None, "NoneType holding object"),
    ],
)
def test_bad_vectors_are_refused(values: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        CallableEncoder(lambda _: values).encode(["first", "second"], "document")


def test_bad_texts_are_refused() -> None:
    with pytest.raises(InputError, match="text 1 is None"):
        CallableEncoder(lengths).encode(["a", None], "query")  # type: ignore[list-item]
    with pytest.raises(ValueError, match="put it in a list"):
        CallableEncoder(lengths).encode("a text", "query")
    with pytest.raises(InputError, match=r"text 1 \('caf\\udce9'\) is not valid Unicode at character 3"):
        CallableEncoder(lengths).encode(["a", "caf\udce9"], "query")


@pytest.mark.parametrize("source", [{"a": VECTORS[0], "b": VECTORS[1]}, (["a", "b"], VECTORS)])
def test_precomputed_vectors_are_looked_up(source: object) -> None:
    encoder = as_encoder(source)
    np.testing.assert_allclose(encoder.encode(["b", "a", "b"], "query"), UNIT[[1, 0, 1]])
    assert encoder.encode([], "document").shape == (0, 2)
    with pytest.raises(InputError, match="no vector for 1 of 2 texts, first 'c'"):
        encoder.encode(["a", "c"], "document")


def test_precomputed_vectors_are_checked() -> None:
    with pytest.raises(InputError, match=r"shape \[2, 2\] for 1 texts"):
        PrecomputedEncoder(["a"], VECTORS)
    with pytest.raises(InputError, match="no texts"):
        as_encoder({})
    with pytest.raises(InputError, match="rows 0 and 1 are one text"):
        PrecomputedEncoder(["a", "a"], VECTORS)
    assert PrecomputedEncoder(["a", "a"], VECTORS[[0, 0]]).encode(["a"], "query").shape == (1, 2)


@pytest.mark.parametrize("source", [3, None, ByRole, object()])
def test_other_things_are_no_encoder(source: object) -> None:
    with pytest.raises(InputError, match="cannot be made of"):
        as_encoder(source)


def test_identity_of_a_function_is_its_name_and_its_numbers() -> None:
    identity = identity_of(CallableEncoder(lengths))
    assert identity.name.endswith("test_encoder.lengths")
    assert identity.dimension == 3
    assert identity == identity_of(as_encoder(lengths))
    noisy = CallableEncoder(lambda texts: lengths(texts) * (1 + 1e-7), name=identity.name)
    assert identity_of(noisy) == identity
    other = CallableEncoder(lambda texts: lengths(texts) + 0.5, name=identity.name)
    assert identity.mismatch(identity_of(other)) is not None
    renamed = CallableEncoder(lengths, name="renamed")
    assert identity_of(renamed).fingerprint("query") != identity.fingerprint("query")


def test_a_slightly_retrained_encoder_is_another_one() -> None:
    def base(texts: list[str]) -> np.ndarray[Any, Any]:
        return np.random.default_rng(0).standard_normal((len(texts), 384))

    def moved(texts: list[str]) -> np.ndarray[Any, Any]:
        return base(texts) + 2e-3 * np.random.default_rng(1).standard_normal((len(texts), 384))  # cosine 1 - 2e-6

    one, two = identity_of(CallableEncoder(base, name="m")), identity_of(CallableEncoder(moved, name="m"))
    assert one.mismatch(two) is not None


def test_identity_of_an_encoder_class_and_of_precomputed_vectors() -> None:
    assert identity_of(ByRole()).name.endswith("test_encoder.ByRole")
    forward = identity_of(as_encoder((["a", "b"], VECTORS)))
    backward = identity_of(as_encoder((["b", "a"], VECTORS[::-1])))
    assert forward == backward
    assert forward.mismatch(identity_of(as_encoder((["a", "b"], VECTORS + 1)))) is not None


def test_roles_of_different_dimension_are_refused() -> None:
    encoder: Encoder = CallableEncoder(lengths, lambda texts: lengths(texts)[:, :2])
    with pytest.raises(InputError, match="3 dimensions for documents and 2 for queries"):
        identity_of(encoder)
