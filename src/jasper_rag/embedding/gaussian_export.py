"""A Gaussian encoder as a sentence-transformers model of stock modules, which loads without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Module, Normalize, Router
from torch import nn

from jasper_rag.atomic_files import replacing_directory
from jasper_rag.embedding.sentence_encoder import quiet_loading
from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError
from jasper_rag.models.projection_head import ProjectionHead

_STOCK = "sentence_transformers."


def save_stock_modules(
    directory: Path,
    base: SentenceTransformer,
    normalize: bool,
    head: ProjectionHead,
    predictor: ProjectionHead | None,
    prompts: Mapping[Role, str],
) -> None:
    """Write the model; the head is two `Dense` modules, and with a predictor queries take a route of their own.

    Args:
        directory: Created, or replaced once all is written.
        base: The base model.
        normalize: Whether the head sees unit vectors.
        head: From the base's vectors to the embeddings.
        predictor: From a query's embedding to what is searched with.
        prompts: Of both roles.

    Raises:
        InputError: The base has modules that sentence-transformers does not come with, or routes of its own.
    """
    modules = cast(list[Module], list(base.children()))
    _require_stock(modules)
    if normalize and not isinstance(modules[-1], Normalize):
        modules.append(Normalize())
    documents = [*modules, *_dense_modules(head)]
    if predictor is not None:
        queries = [*documents, *_dense_modules(predictor)]
        router = Router.for_query_document(query_modules=queries, document_modules=documents, default_route="document")
        documents = [router]
    with quiet_loading(), replacing_directory(directory) as folder:
        model = SentenceTransformer(
            modules=cast(list[nn.Module], documents),
            prompts={"query": prompts["query"], "document": prompts["document"]},
            # `encode` is the document side; without a default it would leave the prompt out.
            default_prompt_name="document" if prompts["document"] else None,
            similarity_fn_name="euclidean",
            device=str(base.device),
            local_files_only=True,
        )
        model.save(str(folder), create_model_card=False)


def _dense_modules(head: ProjectionHead) -> list[Module]:
    (first, first_bias), (last, last_bias) = head.as_two_layers()
    return [_dense(first, first_bias, nn.GELU()), _dense(last, last_bias, nn.Identity())]


def _dense(weight: torch.Tensor, bias: torch.Tensor, activation: nn.Module) -> Dense:
    width, inputs = weight.shape
    return Dense(
        inputs,
        width,
        activation_function=activation,
        init_weight=weight.detach().float().contiguous(),
        init_bias=bias.detach().float().contiguous(),
    )


def _require_stock(modules: list[Module]) -> None:
    own = sorted({type(module).__name__ for module in modules if not type(module).__module__.startswith(_STOCK)})
    routed = [type(module).__name__ for module in modules if isinstance(module, Router)]
    if own or routed:
        raise InputError(
            f"the base model has modules that cannot be written as they are: {', '.join(own or routed)}.",
            remedy="Keep the checkpoint; it loads with GaussianEmbeddingGemma.from_pretrained.",
        )
