"""The cluster of every source of a dataset directory, those without a pair included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.clustering import nearest_centroid
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.models.guard import unit


def source_topics(opened: SteeringTensors) -> NDArray[np.int64]:
    """Cluster of each source, int64 [N].

    As the directory says; where it does not, the cluster that most pairs of a source have (equally many: the smaller
    number), and for a source without a pair that of the nearest centroid.

    Args:
        opened: The dataset.
    """
    if opened.source_clusters is not None:
        kept: NDArray[np.int64] = opened.source_clusters.cpu().numpy()
        return kept
    held = opened.tensors
    clusters = len(held["centroid_embs"])
    vectors, centroids = unit(held["source_embs"].cpu().numpy()), unit(held["centroid_embs"].cpu().numpy())
    topics, _ = nearest_centroid(vectors, centroids)
    # Counted per (source, cluster) that occurs: a full table could be large.
    keys = held["pair_index"][:, 1].cpu().numpy() * clusters + held["pair_cluster_id"].cpu().numpy()
    met, counts = np.unique(keys, return_counts=True)
    order = np.lexsort((-met, counts))
    # The last one written stays: most pairs, then the smaller number.
    topics[met[order] // clusters] = met[order] % clusters
    return topics
