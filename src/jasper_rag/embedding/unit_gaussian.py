"""A Gaussian encoder as an `Encoder`: unit rows, which a cosine compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from jasper_rag.embedding.checksums import bytes_sha256
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.gaussian_base import parameters_sha256
from jasper_rag.embedding.vectors import Role, Vectors, require_texts, unit_rows


class GaussianModel(Protocol):
    """What of a Gaussian encoder is used here."""

    output_dim: int
    normalize_embeddings: bool
    base_identity: EncoderIdentity

    def encode(self, texts: Sequence[str], batch_size: int = ..., *, role: Role = ...) -> Tensor:
        """Embeddings [n, d] on the CPU."""
        ...

    def predict_query(self, embeddings: Tensor) -> Tensor:
        """What queries are searched with."""
        ...

    def state(self) -> dict[str, Any]:
        """Weights and configuration."""
        ...


class UnitGaussianEncoder:
    """Rows of `model.encode`, queries through its predictor, brought to length 1.

    Args:
        model: The Gaussian encoder; the identity is taken when first asked for, so train first.
        batch_size: Texts per forward pass.
    """

    def __init__(self, model: GaussianModel, batch_size: int = 32) -> None:
        self.model, self.batch_size = model, batch_size
        self.name = f"{model.base_identity.name} + Gaussian head"
        self._identity: EncoderIdentity | None = None

    @property
    def dimension(self) -> int:
        """Length d of a vector."""
        return self.model.output_dim

    @torch.no_grad()
    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts.

        Returns:
            float32 [n, d], rows of unit length.

        Raises:
            InputError: A text is not a string, or a vector is not finite.
        """
        require_texts(texts)
        rows = self.model.encode(texts, self.batch_size, role=role)
        if role == "query":
            rows = self.model.predict_query(rows)
        return unit_rows(rows, texts, f"encoder {self.name!r}") if len(texts) else rows.numpy()

    def identity(self) -> EncoderIdentity:
        """The base's identity with a hash over it and the trained weights."""
        if self._identity is None:
            state = self.model.state()
            base = self.model.base_identity
            own = parameters_sha256(state["model_state_dict"])
            kind = "unit" if self.model.normalize_embeddings else "raw"
            self._identity = replace(
                base,
                name=self.name,
                revision="",
                weights_sha256=bytes_sha256(f"{base.weights_sha256} {kind} {own}".encode()),
                dimension=self.model.output_dim,
            )
        return self._identity
