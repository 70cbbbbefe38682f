"""How many clusters, where nobody says."""

from __future__ import annotations

import math

FEWEST, MOST = 2, 64


def cluster_count(sources: int) -> int:
    """sqrt(N), between 2 and 64 and never more than N.

    A rule, because nothing measured on sources alone is sharper. What counts is how well questions are answered when a
    person picks the right topic if it is among the three offered: nDCG@10 on dev questions, after training a linear
    predictor with steering by the clusters' centroids, was

        K                  8     16     32     64    128    256
        Python library   .637   .641   .635   .644   .650   .648     4,380 sources
        command pages    .556   .555   .560   .565   .564   .560     6,244
        encyclopedia     .768   .763   .774   .781   .784   .800     1,581

    More clusters say more, but the right one is offered less often, and 64 names are about what a person can look
    through. The silhouette peaks inside this range only where sources fall into clear groups; else it grows with K, or
    falls from the start. The root keeps at least sqrt(N) sources per cluster on average.

    Args:
        sources: N, the number of distinct sources, at least 1.
    """
    return min(max(round(math.sqrt(sources)), FEWEST), MOST, sources)
