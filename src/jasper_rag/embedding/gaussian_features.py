"""The base half of a Gaussian encoder: texts to the vectors that its head starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.embedding import gaussian_base
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Role, require_texts
from jasper_rag.progress import progress_bar, quiet


class BaseFeatures(nn.Module):
    """A sentence-transformers model whose vectors are taken with gradient, or without where it is frozen.

    Args:
        base_model: Name or folder; None: $JASPER_BASE_MODEL, else google/embeddinggemma-300m.
        normalize_embeddings: Unit vectors; False: what the base gives without its own normalisation.
        query_prompt: Put before every query; None: the base's own.
        document_prompt: Put before every document; None: the base's own.
        max_seq_length: Tokens read of a text; None: the base's own.
        device: Where to compute; None: an accelerator where there is one.
        revision: Of the base, on the hub.
        trust_remote_code: Run code that comes with the base.
        offline: Never contact a hub.

    Raises:
        InputError: The base cannot be had, or a setting does not fit it.
    """

    def __init__(
        self,
        base_model: str | None,
        normalize_embeddings: bool,
        *,
        query_prompt: str | None,
        document_prompt: str | None,
        max_seq_length: int | None,
        device: str | torch.device | None,
        revision: str | None,
        trust_remote_code: bool,
        offline: bool,
    ) -> None:
        super().__init__()
        loaded = gaussian_base.load_base(
            base_model,
            max_seq_length=max_seq_length,
            device=None if device is None else str(device),
            revision=revision,
            trust_remote_code=trust_remote_code,
            offline=offline,
        )
        self.base = loaded.model
        self.prompts: dict[Role, str] = {
            "query": loaded.prompt("query") if query_prompt is None else query_prompt,
            "document": loaded.prompt("document") if document_prompt is None else document_prompt,
        }
        folder = Path(loaded.config.name).expanduser()
        self.base_identity: EncoderIdentity = replace(
            loaded.identity(),
            # Absolute, so that it is found again from another working directory.
            name=str(folder.resolve()) if folder.is_dir() else loaded.config.name,
            query_prompt=self.prompts["query"],
            document_prompt=self.prompts["document"],
        )
        self.base_dim = loaded.dimension
        self.normalize_embeddings = normalize_embeddings
        if not normalize_embeddings:
            gaussian_base.drop_normalisation(self.base)
        self.freeze_base, self.freeze_early_layers = False, False
        # Weights that may have moved must be saved, even if they are frozen later on.
        self.base_is_original = True

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.base.device

    def set_frozen(self, freeze_base: bool, freeze_early_layers: bool = False) -> None:
        """Choose what of the base is trained.

        Raises:
            InputError: Its layers cannot be told, or it has none beyond the early ones.
        """
        for parameter in self.base.parameters():
            parameter.requires_grad_(not freeze_base)
        if freeze_early_layers and not freeze_base:
            gaussian_base.freeze_early(self.base)
        self.freeze_base, self.freeze_early_layers = freeze_base, freeze_early_layers
        self.base_is_original = self.base_is_original and freeze_base
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode; a frozen base stays in evaluation mode, without dropout."""
        super().train(mode)
        if self.freeze_base:
            self.base.eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """See `gaussian_base.enable_gradient_checkpointing`."""
        gaussian_base.enable_gradient_checkpointing(self.base)

    def base_features(self, texts: Sequence[str], role: Role = "document") -> Tensor:
        """The base's vectors [n, D] of one batch, on its device; with gradient where it is trained.

        Unit rows with `normalize_embeddings`.
        """
        require_texts(texts)
        if not texts:
            return torch.zeros(0, self.base_dim, device=self.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_base):
            return self.features_of(self.tokens_of(texts, role), role)

    def tokens_of(self, texts: Sequence[str], role: Role) -> Mapping[str, Any]:
        """What the base makes of texts before its network runs."""
        return gaussian_base.tokens_of(self.base, texts, self.prompts[role], role)

    def features_of(self, tokens: Mapping[str, Any], role: Role) -> Tensor:
        """`base_features` of `tokens_of`, float32, with gradient wherever the base's weights have one."""
        features = gaussian_base.vectors_of(self.base, tokens, role).float()
        return functional.normalize(features, dim=-1) if self.normalize_embeddings else features

    @torch.no_grad()
    def encode_base(
        self,
        texts: Sequence[str] | str,
        batch_size: int = 32,
        show_progress: bool = False,
        role: Role = "document",
    ) -> Tensor:
        """`base_features` of any number of texts, without gradient and dropout: float32 [n, D] on the CPU."""
        texts = [texts] if isinstance(texts, str) else texts
        require_texts(texts)
        rows = torch.zeros(len(texts), self.base_dim)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        was_training = self.base.training
        self.base.eval()
        try:
            with nullcontext() if show_progress else quiet(), progress_bar(len(texts), "encoding texts") as bar:
                for start in range(0, len(texts), batch_size):
                    chosen = order[start : start + batch_size]
                    features = self.base_features([texts[row] for row in chosen], role)
                    rows[torch.from_numpy(chosen)] = features.float().cpu()
                    bar.update(len(chosen))
        finally:
            self.base.train(was_training)
        return rows
