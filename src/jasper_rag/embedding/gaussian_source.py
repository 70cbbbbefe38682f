"""A trained Gaussian encoder by the name of its checkpoint, for whatever takes an encoder by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jasper_rag.errors import InputError

if TYPE_CHECKING:  # torch is needed from here on
    from jasper_rag.embedding.sentence_encoder_config import SentenceEncoderConfig
    from jasper_rag.embedding.unit_gaussian import UnitGaussianEncoder

_ITS_OWN: dict[str, Any] = {
    "max_seq_length": None,
    "query_prompt": "",
    "document_prompt": "",
    "revision": None,
    "dtype": "float32",
}
"""Settings that the checkpoint knows, and the values by which they are left to it."""


def is_gaussian_checkpoint(name: str | Path) -> bool:
    """Whether an encoder's name is that of a checkpoint: it ends in .pt."""
    return Path(name).suffix.lower() == ".pt"


def gaussian_checkpoint_encoder(
    path: str | Path,
    *,
    device: str | None = None,
    batch_size: int = 32,
    trust_remote_code: bool = False,
    offline: bool = False,
) -> UnitGaussianEncoder:
    """A checkpoint as an `Encoder`; its identity is named by the absolute path and holds hashes of all weights.

    Args:
        path: A `.pt` file of a training run.
        device: Where to compute; None: an accelerator where there is one.
        batch_size: Texts per forward pass.
        trust_remote_code: Run code that comes with the base.
        offline: Never contact a hub.

    Raises:
        InputError: It is not there (any more), damaged or foreign, or its base model cannot be had.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        remedy = (
            "Give the path of best_model.pt of a training run. If a model was fitted with it, put it back or say "
            "where it is now: Jasper.load(RUN, encoder='PATH.pt')."
        )
        raise InputError("there is no checkpoint of an encoder here.", path=path, remedy=remedy)
    from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma

    model = GaussianEmbeddingGemma.from_pretrained(
        path, device=device, trust_remote_code=trust_remote_code, offline=offline
    )
    encoder = model.encoder(batch_size)
    encoder.name = str(path.resolve())
    return encoder


def configured_checkpoint_encoder(config: SentenceEncoderConfig) -> UnitGaussianEncoder:
    """The checkpoint that `config.name` names.

    Raises:
        InputError: As `gaussian_checkpoint_encoder`, and for a setting that the checkpoint decides.
    """
    for field, default in _ITS_OWN.items():
        given = getattr(config, field)
        if given != default:
            remedy = f"Leave {field} out: a checkpoint reads texts as it was trained to."
            raise InputError(f"{given!r} is given for the checkpoint {config.name}.", field=field, remedy=remedy)
    return gaussian_checkpoint_encoder(
        config.name,
        device=config.device,
        batch_size=config.batch_size,
        trust_remote_code=config.trust_remote_code,
        offline=config.offline,
    )
