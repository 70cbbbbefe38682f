"""What a dataset shows of the tensors it serves from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from jasper_rag.data.keyword_lists import KeywordLists
from jasper_rag.data.steering_tensors import MEBIBYTE, SteeringTensors


class TensorViews(ABC):
    """Read-only attributes over `tensors`."""

    @property
    @abstractmethod
    def tensors(self) -> SteeringTensors:
        """Everything read from the directory."""

    @property
    def config(self) -> dict[str, Any]:
        """config.json as it stands in the directory."""
        return dict(self.tensors.settings)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.tensors.device

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.tensors.config.embedding_dim

    @property
    def n_neg(self) -> int:
        """N."""
        return self.tensors.config.n_neg

    @property
    def memory_usage_mb(self) -> float:
        """MiB (2^20 bytes) of the tensors held in memory, mapped ones not counted; splits share one copy."""
        return self.tensors.bytes_in_memory() / MEBIBYTE

    @property
    def centroid_embs(self) -> Tensor:
        """Cluster centroids, [n_clusters, D]."""
        return self.tensors.tensors["centroid_embs"]

    @property
    def source_embs(self) -> Tensor:
        """Sources, [n_sources, D]."""
        return self.tensors.tensors["source_embs"]

    @property
    def question_embs(self) -> Tensor:
        """Questions, [n_questions, D]."""
        return self.tensors.tensors["question_embs"]

    @property
    def keyword_embs(self) -> Tensor:
        """Keywords, [n_keywords, D]."""
        return self.tensors.tensors["keyword_embs"]

    @property
    def pair_index(self) -> Tensor:
        """Question and source of every pair, int64 [n_pairs, 2]."""
        return self.tensors.tensors["pair_index"]

    @property
    def pair_keyword_ids(self) -> KeywordLists:
        """Keyword rows of every pair."""
        return self.tensors.keywords

    @property
    def hard_negatives(self) -> Tensor:
        """Source rows of every pair's negatives, int64 [n_pairs, N]."""
        return self.tensors.negatives.ids

    @property
    def negative_tiers(self) -> Tensor:
        """Tiers of every pair's negatives, int64 [n_pairs, N]."""
        return self.tensors.negatives.tiers

    @property
    def negative_scores(self) -> Tensor | None:
        """Cosines for which the negatives were mined, [n_pairs, N]; None where they are not known."""
        return self.tensors.negatives.scores

    @property
    def source_cluster_id(self) -> Tensor | None:
        """Cluster of every source, int64 [n_sources]; None where the directory does not say."""
        return self.tensors.source_clusters
