from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.metrics.topk import top_k
from jasper_rag.retrieval.vector_index import ExactIndex, VectorIndex


def test_exact_index_is_top_k() -> None:
    generator = np.random.default_rng(0)
    vectors, queries = generator.standard_normal((40, 6)), generator.standard_normal((3, 6))
    index = ExactIndex(vectors)
    assert isinstance(index, VectorIndex)
    assert len(index) == 40
    for found, expected in zip(index.search(queries, 7), top_k(queries, vectors, 7), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_single_vector_is_not_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\], got \[6\]"):
        ExactIndex(np.zeros(6))
