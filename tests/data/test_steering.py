from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from jasper_rag.data.keyword_lists import KeywordLists, keyword_lists
from jasper_rag.data.steering import along_the_line, keyword_steering


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1e-3, 1e3]))
def test_factors_give_the_variants(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    questions, centroids = (scale * torch.randn(4, 5, generator=generator) for _ in range(2))
    unit = torch.tensor([[0.0], [1.0], [0.0], [-1.0]])
    whole = torch.tensor([[0.0], [0.0], [-1.0], [0.0]])
    expected = torch.stack(
        [
            torch.zeros(5),
            normalize(centroids[1] - questions[1], dim=0),
            questions[2] - centroids[2],
            normalize(questions[3] - centroids[3], dim=0),
        ]
    )
    torch.testing.assert_close(along_the_line(questions, centroids.clone(), unit, whole), expected)


@pytest.mark.parametrize("length", [0.0, 0.9e-8])
def test_hardly_any_difference_has_no_direction(length: float) -> None:
    questions = torch.zeros(1, 3)
    centroids = torch.tensor([[length, 0.0, 0.0]])
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    assert torch.equal(along_the_line(questions, centroids, one, none), torch.zeros(1, 3))


@pytest.mark.slow
@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10, width=32)), min_size=1), min_size=1, max_size=6))
def test_keywords_are_summed_by_weight(pairs: list[list[tuple[int, float]]]) -> None:
    embeddings = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    flat = keyword_lists([[row for row, _ in pair] for pair in pairs])
    weights = torch.tensor([weight for pair in pairs for _, weight in pair], dtype=torch.float32)
    found = keyword_steering(KeywordLists(flat.values, flat.offsets, weights), embeddings)
    sums = [torch.stack([weight * embeddings[row] for row, weight in pair]).sum(0) for pair in pairs]
    expected = [normalize(total, dim=0) if total.norm() > 1e-8 else torch.zeros(3) for total in sums]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_opposite_keywords_have_no_direction() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    found = keyword_steering(keyword_lists([[0, 1], [0, 1, 2]]), embeddings)
    assert found.tolist() == [[0.0, 0.0], [0.0, 1.0]]
