from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.training.schedules import geometric


def test_equal_factors_from_start_towards_end() -> None:
    values = [geometric(1e-4, 3e-3, step, 50) for step in range(51)]
    assert values == pytest.approx(np.geomspace(1e-4, 3e-3, 51).tolist())
    assert geometric(0.5, 0.5, 3, 7) == 0.5
