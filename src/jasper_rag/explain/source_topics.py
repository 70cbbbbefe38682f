"""The cluster of every source of a dataset directory, those without a pair included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.clustering import nearest_centroid
from jasper_rag.build.dataset_files import SOURCE_CLUSTERS
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.data.storage.tensor_files import TensorFiles
from jasper_rag.data.validation import check_tensor
from jasper_rag.dataset_layout import TensorSpec
from jasper_rag.models.guard import unit

_SPEC = TensorSpec(SOURCE_CLUSTERS, "int64", ("n_sources",), "", required=False, low=0, high="n_clusters")


def source_topics(opened: SteeringTensors) -> NDArray[np.int64]:
    """Cluster of each source, int64 [N].

    As the directory says; where it does not, the cluster that most pairs of a source have (equally many: the smaller
    number), and for a source without a pair that of the nearest centroid.

    Args:
        opened: The dataset.

    Raises:
        InputError: The file of clusters is damaged or does not fit.
    """
    held = opened.tensors
    sources, clusters = len(held["source_embs"]), len(held["centroid_embs"])
    stored = TensorFiles(opened.root).read(_SPEC)
    if stored is not None:
        check_tensor(stored, _SPEC, {"n_sources": sources, "n_clusters": clusters})
        kept: NDArray[np.int64] = stored.tensor.numpy()
        return kept
    vectors, centroids = unit(held["source_embs"].numpy()), unit(held["centroid_embs"].numpy())
    topics, _ = nearest_centroid(vectors, centroids)
    # Counted per (source, cluster) that occurs: a full table could be large.
    keys = held["pair_index"][:, 1].numpy() * clusters + held["pair_cluster_id"].numpy()
    met, counts = np.unique(keys, return_counts=True)
    order = np.lexsort((-met, counts))
    # The last one written stays: most pairs, then the smaller number.
    topics[met[order] // clusters] = met[order] % clusters
    return topics
