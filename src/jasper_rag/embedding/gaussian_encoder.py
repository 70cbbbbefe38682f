"""GaussianEmbeddingGemma: any sentence-transformers model with a head whose outputs are compared by L2 distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn

from jasper_rag.embedding.gaussian_checkpoint import load_weights, read_gaussian_checkpoint, require_same_base
from jasper_rag.embedding.gaussian_export import save_stock_modules
from jasper_rag.embedding.gaussian_features import BaseFeatures
from jasper_rag.embedding.unit_gaussian import UnitGaussianEncoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.projection_head import ProjectionHead

_SETTINGS = (
    *("output_dim", "freeze_base", "freeze_early_layers", "normalize_embeddings", "use_predictor"),
    *("query_prompt", "document_prompt", "max_seq_length"),
)
"""Keys of the configuration that the constructor takes as they are."""


class GaussianEmbeddingGemma(BaseFeatures):
    """A base model, a head that starts as the identity, and, if asked for, a predictor for queries.

    Embeddings are sqrt(d) times what the head makes of the base's unit vector and are not normalised: untrained they
    rank by L2 exactly as the base does by cosine.

    Args:
        output_dim: d.
        base_model: Name or folder; None: $JASPER_BASE_MODEL, else google/embeddinggemma-300m.
        freeze_base: The base is run in evaluation mode (no dropout) and without gradient.
        freeze_early_layers: Freeze the base's first 4 transformer layers and the embeddings below them.
        normalize_embeddings: The head sees unit vectors. False: what the base gives without its own normalisation.
        use_predictor: A second residual head that predicts from a query's embedding where its document lies.
        query_prompt: Put before every query; None: the base's own.
        document_prompt: Put before every document; None: the base's own.
        max_seq_length: Tokens read of a text; None: the base's own.
        device: Where to compute; None: an accelerator where there is one.
        revision: Of the base, on the hub.
        trust_remote_code: Run code that comes with the base.
        offline: Never contact a hub.

    Raises:
        InputError: The base cannot be had, a setting does not fit it, or its layers cannot be told.
    """

    def __init__(
        self,
        output_dim: int = 512,
        base_model: str | None = None,
        freeze_base: bool = False,
        freeze_early_layers: bool = False,
        normalize_embeddings: bool = True,
        use_predictor: bool = False,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        max_seq_length: int | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        offline: bool = False,
    ) -> None:
        if output_dim < 1:
            raise InputError(f"an output dimension of {output_dim}; expected at least 1.", field="output_dim")
        super().__init__(
            base_model,
            normalize_embeddings,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            max_seq_length=max_seq_length,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            offline=offline,
        )
        self.output_dim = output_dim
        self.projection = ProjectionHead(self.base_dim, output_dim).to(self.device)
        self.predictor: ProjectionHead | None = None
        if use_predictor:
            self.predictor = ProjectionHead(output_dim, output_dim, scale=1.0).to(self.device)
        self.set_frozen(freeze_base, freeze_early_layers)
        self.register_load_state_dict_post_hook(_allow_without_base)  # type: ignore[no-untyped-call]

    @property
    def scale(self) -> float:
        """sqrt(d)."""
        return math.sqrt(self.output_dim)

    def project(self, features: Tensor) -> Tensor:
        """Embeddings [n, d] of the base's vectors [n, D]."""
        embeddings: Tensor = self.projection(features)
        return embeddings

    def predict_query(self, embeddings: Tensor) -> Tensor:
        """What a query is searched with, [n, d] out of its embedding; the embedding itself without a predictor."""
        if self.predictor is None:
            return embeddings
        predicted: Tensor = self.predictor(embeddings.to(self.device))
        return predicted.to(embeddings.device)

    def forward(self, texts: Sequence[str], role: Role = "document") -> Tensor:
        """Embeddings [n, d] of one batch, with gradient; the predictor is not applied."""
        return self.project(self.base_features(texts, role))

    @overload
    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = ...,
        show_progress: bool = ...,
        convert_to_numpy: Literal[False] = ...,
        role: Role = ...,
    ) -> Tensor: ...

    @overload
    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = ...,
        show_progress: bool = ...,
        *,
        convert_to_numpy: Literal[True],
        role: Role = ...,
    ) -> Vectors: ...

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 32,
        show_progress: bool = False,
        convert_to_numpy: bool = False,
        role: Role = "document",
    ) -> Tensor | Vectors:
        """Embeddings of any number of texts, without gradient and dropout; the predictor is not applied.

        Args:
            texts: The texts; one string counts as one text.
            batch_size: Texts per forward pass; texts of similar length are put together.
            show_progress: Show a bar.
            convert_to_numpy: Return an array instead of a tensor on the CPU.
            role: Whose prompt is put before them.

        Returns:
            float32 [n, d], not normalised, in the order of `texts`.

        Raises:
            InputError: A text is not a string.
        """
        embeddings = self.encode_base(texts, batch_size, show_progress, role)
        with torch.no_grad():
            found = [self.project(part.to(self.device)).float().cpu() for part in torch.split(embeddings, 4096)]
        rows = torch.cat(found) if len(embeddings) else torch.zeros(0, self.output_dim)
        return rows.numpy() if convert_to_numpy else rows

    def initialise_projection(self, features: Tensor) -> float:
        """See `ProjectionHead.initialise_from`; `features` are `encode_base` of documents to train on."""
        return self.projection.initialise_from(features.to(self.device))

    def get_trainable_parameters(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by part: "base", "projection" and, where there is one, "predictor"."""
        parts: dict[str, nn.Module] = {"base": self.base, "projection": self.projection}
        if self.predictor is not None:
            parts["predictor"] = self.predictor
        return {name: [each for each in part.parameters() if each.requires_grad] for name, part in parts.items()}

    def parameter_groups(
        self,
        learning_rate: float,
        base_learning_rate: float | None = None,
        projection_learning_rate: float | None = None,
    ) -> list[dict[str, Any]]:
        """Groups for an optimiser: the base at its own rate, head and predictor at theirs; empty ones absent.

        Args:
            learning_rate: Where no other is given.
            base_learning_rate: Of the base.
            projection_learning_rate: Of head and predictor, whether the base is frozen or not.

        Returns:
            [{"name", "params", "lr"}, ...].
        """
        head = learning_rate if projection_learning_rate is None else projection_learning_rate
        base = learning_rate if base_learning_rate is None else base_learning_rate
        rates = {"base": base, "projection": head, "predictor": head}
        parts = self.get_trainable_parameters().items()
        return [{"name": name, "params": params, "lr": rates[name]} for name, params in parts if params]

    def config(self) -> dict[str, Any]:
        """Plain values that say how to build it again."""
        return {
            "base_model": self.base_identity.name,
            "base_revision": self.base_identity.revision,
            "base_weights_sha256": self.base_identity.weights_sha256,
            "base_configuration_sha256": self.base_identity.configuration_sha256,
            "base_weights_included": not self.base_is_original,
            "base_dim": self.base_dim,
            "output_dim": self.output_dim,
            "normalize_embeddings": self.normalize_embeddings,
            "use_predictor": self.predictor is not None,
            "query_prompt": self.prompts["query"],
            "document_prompt": self.prompts["document"],
            "max_seq_length": self.base_identity.max_seq_length,
            "freeze_base": self.freeze_base,
            "freeze_early_layers": self.freeze_early_layers,
        }

    def state(self) -> dict[str, Any]:
        """The "model_state_dict" and "config" for `write_gaussian_checkpoint`; a base that never moved is left out."""
        weights = self.state_dict()
        kept = {
            name: value for name, value in weights.items() if not (self.base_is_original and name.startswith("base."))
        }
        return {"model_state_dict": kept, "config": self.config()}

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        base_model: str | None = None,
        device: str | torch.device | None = None,
        *,
        output_dim: int | None = None,
        trust_remote_code: bool = False,
        offline: bool = False,
    ) -> Self:
        """Load a checkpoint, in evaluation mode; the path alone says all.

        Args:
            path: A `.pt` file of a training run.
            base_model: Where the base now lies, if elsewhere; it must be the same one.
            device: Where to compute.
            output_dim: The dimension that is expected, if any.
            trust_remote_code: Run code that comes with the base.
            offline: Never contact a hub.

        Raises:
            InputError: The file is damaged or foreign, or base model or dimension are others.
        """
        state = read_gaussian_checkpoint(path)
        config: Mapping[str, Any] = state["config"]
        if output_dim is not None and output_dim != config["output_dim"]:
            raise InputError(
                f"has embeddings of {config['output_dim']} dimensions, not {output_dim}.",
                path=path,
                field="output_dim",
                remedy="Leave the dimension out; the checkpoint knows it.",
            )
        model = cls(
            base_model=base_model or config["base_model"],
            device=device,
            revision=None if base_model else config.get("base_revision") or None,
            trust_remote_code=trust_remote_code,
            offline=offline,
            **{key: config[key] for key in _SETTINGS},
        )
        require_same_base(config, model.base_identity, path)
        load_weights(model, state["model_state_dict"], config["base_weights_included"], path)
        model.base_is_original = not config["base_weights_included"]
        return model.eval()

    def save_sentence_transformer(self, directory: str | Path) -> None:
        """Write a model of stock modules only: `SentenceTransformer(directory)` gives the same embeddings.

        `encode` and `encode_document` are `encode`; `encode_query` applies the predictor as well.

        Raises:
            InputError: The base has modules of its own.
        """
        save_stock_modules(
            Path(directory), self.base, self.normalize_embeddings, self.projection, self.predictor, self.prompts
        )

    def encoder(self, batch_size: int = 32) -> UnitGaussianEncoder:
        """An `Encoder` for `jasper fit`: unit rows, the predictor applied to queries."""
        return UnitGaussianEncoder(self, batch_size)


def _allow_without_base(module: GaussianEmbeddingGemma, found: Any) -> None:
    """Weights without any of the base's are those of a base that never moved: it stays as it was loaded."""
    of_base = {f"base.{name}" for name in module.base.state_dict()}
    if of_base <= set(found.missing_keys):
        found.missing_keys[:] = [name for name in found.missing_keys if name not in of_base]
