from __future__ import annotations

import pytest

from jasper_rag.evaluation.comparison import FusionWeights
from jasper_rag.retrieval.fusion import DEFAULT_WEIGHT

WEIGHTS = FusionWeights(plain=0.35, jasper=0.6)


def test_weights_of_a_foreign_corpus_are_the_default() -> None:
    assert WEIGHTS.over(1.0) == WEIGHTS
    assert WEIGHTS.over(0.0) == FusionWeights(DEFAULT_WEIGHT, DEFAULT_WEIGHT)
    half = WEIGHTS.over(0.5)
    assert (half.plain, half.jasper) == pytest.approx(((0.35 + DEFAULT_WEIGHT) / 2, (0.6 + DEFAULT_WEIGHT) / 2))
