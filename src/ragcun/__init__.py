"""Import paths of the original `ragcun` package; every name is `jasper_rag`'s own object."""

from __future__ import annotations

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma as GaussianEmbeddingGemma
from jasper_rag.retrieval.gaussian_retriever import GaussianRetriever as GaussianRetriever
