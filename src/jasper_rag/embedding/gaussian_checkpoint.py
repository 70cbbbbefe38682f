"""Checkpoints of a Gaussian encoder: tensors and plain values that say all it takes to load them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jasper_rag.atomic_files import replacing
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.errors import InputError
from jasper_rag.models.checkpoint_file import read_checkpoint_file

FORMAT_VERSION = 1

CONFIG_TYPES: Mapping[str, tuple[type, ...]] = {
    "base_model": (str,),
    "base_weights_sha256": (str,),
    "base_configuration_sha256": (str,),
    "base_weights_included": (bool,),
    "base_dim": (int,),
    "output_dim": (int,),
    "normalize_embeddings": (bool,),
    "use_predictor": (bool,),
    "query_prompt": (str,),
    "document_prompt": (str,),
    "max_seq_length": (int, type(None)),
    "freeze_base": (bool,),
    "freeze_early_layers": (bool,),
}
"""Keys that the configuration in a checkpoint has, and the types of their values; others may stand beside them."""


def write_gaussian_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `GaussianEmbeddingGemma.state()`, with whatever plain values and tensors stand beside it, atomically.

    The model's weights are written as of the CPU: any machine can load them.

    Raises:
        OSError: It cannot be written.
    """
    whole = {"format_version": FORMAT_VERSION, **state}
    if "model_state_dict" in state:
        whole["model_state_dict"] = {name: value.cpu() for name, value in state["model_state_dict"].items()}
    with replacing(path) as temporary:
        torch.save(whole, temporary)


def read_gaussian_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint and check that it describes itself; nothing in the file is executed.

    Args:
        path: A file that `write_gaussian_checkpoint` left.
        device: Where its tensors go.

    Returns:
        The dict that was written: "model_state_dict", "config" and what stood beside them.

    Raises:
        InputError: It is missing, damaged, of another format, or holds more than tensors and plain values.
    """
    path = Path(path)
    state = read_checkpoint_file(path, device, "Give best_model.pt of a training run.")
    if not isinstance(state, dict):
        raise InputError(f"holds a {type(state).__name__}, no checkpoint.", path=path)
    _require_format(state, path)
    return dict(state)


def require_same_base(config: Mapping[str, Any], identity: EncoderIdentity, path: str | Path) -> None:
    """Refuse a base model other than the one the head was trained on.

    Args:
        config: Of the checkpoint.
        identity: Of the base model at hand.
        path: Of the checkpoint, for the message.

    Raises:
        InputError: Weights, configuration (tokenizer, architecture, pooling) or dimension differ.
    """
    facts = {
        "weights (SHA-256)": (config["base_weights_sha256"], identity.weights_sha256),
        "configuration (SHA-256)": (config["base_configuration_sha256"], identity.configuration_sha256),
        "dimension": (config["base_dim"], identity.dimension),
    }
    for what, (wanted, found) in facts.items():
        if wanted != found:
            raise InputError(
                f"was trained on {config['base_model']!r}; {identity.name!r} differs in {what}: "
                f"expected {_short(wanted)}, found {_short(found)}.",
                path=path,
                remedy="Give the base model it was trained on with base_model=, or train anew.",
            )


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], base_included: bool, path: str | Path) -> None:
    """Put the weights of a checkpoint into a model.

    Args:
        model: With the base model below "base.".
        weights: By name.
        base_included: Whether those of the base are among them.
        path: Of the checkpoint, for the message.

    Raises:
        InputError: Weights are missing, unknown or of another shape.
    """
    own = model.state_dict()
    wanted = {name for name in own if base_included or not name.startswith("base.")}
    missing, unknown = sorted(wanted - set(weights)), sorted(set(weights) - wanted)
    if missing or unknown:
        listed = [f"{word} {names[0]}" for word, names in (("lacks", missing), ("has an unknown", unknown)) if names]
        raise InputError(f"does not fit its own configuration: it {' and '.join(listed)}.", path=path)
    for name in sorted(wanted):
        if not isinstance(weights[name], Tensor) or weights[name].shape != own[name].shape:
            raise InputError(f"{name} does not have the shape {list(own[name].shape)}.", path=path)
    model.load_state_dict(dict(weights), strict=False)


def _require_format(state: Mapping[str, Any], path: Path) -> None:
    version = state.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        remedy = "Use the version of jasper-rag that wrote it, or train again."
        raise InputError(f"has format version {version}; this one reads {FORMAT_VERSION}.", path=path, remedy=remedy)
    weights, config = state.get("model_state_dict"), state.get("config")
    if isinstance(weights, dict) and "projection.0.weight" in weights:
        raise InputError(
            "holds a plain MLP head, without saying which base model it was trained on.",
            path=path,
            remedy="Train anew with scripts/train.py; such a head cannot be told from one of another base model.",
        )
    if not isinstance(weights, dict) or not isinstance(config, dict):
        lacking = "model_state_dict" if not isinstance(weights, dict) else "config"
        raise InputError(f"lacks {lacking}.", path=path, remedy="Give a checkpoint of scripts/train.py.")
    for key, types in CONFIG_TYPES.items():
        value = config.get(key)
        # True is an int for Python.
        if key not in config or not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            problem = f"{value!r} is of the wrong type." if key in config else "is missing from the configuration."
            raise InputError(problem, path=path, field=key, remedy="Give a checkpoint of scripts/train.py.")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
