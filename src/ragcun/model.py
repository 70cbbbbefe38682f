"""Re-exports of `jasper_rag.embedding.gaussian_encoder`."""

from __future__ import annotations

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma as GaussianEmbeddingGemma
