"""Vectors of a base model that does not move: computed once, kept on disk where they are its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.vectors import Role, Vectors

_BATCH = 64


class BaseEncoder:
    """The base of a Gaussian encoder as an `Encoder`: unit rows, its own identity.

    Args:
        model: Its base must be as it was loaded, and normalise.
    """

    def __init__(self, model: GaussianEmbeddingGemma) -> None:
        self.model = model

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """float32 [n, D]."""
        vectors: Vectors = self.model.encode_base(texts, _BATCH, role=role).numpy()
        return vectors

    def identity(self) -> EncoderIdentity:
        """Of the base, with the prompts of this model."""
        return self.model.base_identity


def base_vectors(
    model: GaussianEmbeddingGemma,
    texts: Sequence[str],
    role: Role,
    *,
    store: EmbeddingStore | None = None,
) -> Tensor:
    """The base's vectors of texts, without dropout: float32 [n, D] on the CPU.

    Args:
        model: Whose base.
        texts: n texts.
        role: Of the texts.
        store: Where they are kept; it is not asked where the base has moved or its vectors are not of length 1.
    """
    if store is None or not model.base_is_original or not model.normalize_embeddings or not texts:
        return model.encode_base(texts, _BATCH, show_progress=True, role=role)
    kind = "queries" if role == "query" else "documents"
    return torch.from_numpy(store.embed(texts, BaseEncoder(model), role, kind))
