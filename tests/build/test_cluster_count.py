from __future__ import annotations

import pytest

from jasper_rag.build.cluster_count import cluster_count


@pytest.mark.parametrize(
    ("sources", "clusters"), [(1, 1), (2, 2), (5, 2), (100, 10), (1581, 40), (4096, 64), (200_000, 64)]
)
def test_the_root_within_its_limits(sources: int, clusters: int) -> None:
    assert cluster_count(sources) == clusters
