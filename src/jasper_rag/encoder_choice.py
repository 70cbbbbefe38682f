"""Which encoder serves a model, and whether it is the one the model's vectors were made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jasper_rag.embedding.encoder import Encoder, as_encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.gaussian_source import configured_checkpoint_encoder, is_gaussian_checkpoint
from jasper_rag.errors import InputError
from jasper_rag.jasper_config import JasperConfig

GIVEN_VECTORS = "vectors given by the user"
"""Name of the identity of vectors that came without their encoder."""


def usable_encoder(
    encoder: object, config: JasperConfig, *, offline: bool, saved: EncoderIdentity | None = None
) -> Encoder:
    """The given encoder (an `Encoder`, a model name, a function), or the config's.

    Args:
        encoder: None: the config's.
        config: Settings of a fit.
        offline: Never contact a hub.
        saved: Identity of the encoder of a saved model. It knows a checkpoint's absolute path, while the settings may
            name it from another working directory.

    Raises:
        InputError: It cannot be had.
    """
    if encoder is not None:
        return as_encoder(encoder)
    wanted = config.encoder.to_encoder_config(offline=offline)
    if is_gaussian_checkpoint(wanted.name):
        there = saved is not None and is_gaussian_checkpoint(saved.name) and Path(saved.name).is_file()
        return configured_checkpoint_encoder(replace(wanted, name=saved.name) if saved and there else wanted)
    # Loaded here: it takes longer to import than all the rest, and an encoder of one's own needs none of it.
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    return SentenceEncoder.from_config(wanted)


def given_vectors_identity(dimension: int) -> EncoderIdentity:
    """The identity of vectors of length `dimension` whose encoder is unknown."""
    return EncoderIdentity(name=GIVEN_VECTORS, dimension=dimension)


def require_known(identity: EncoderIdentity) -> None:
    """Refuse to guess the encoder of vectors that came without one.

    Raises:
        InputError: They did.
    """
    if identity.name == GIVEN_VECTORS:
        raise InputError(
            "this model was fitted on vectors alone; it has no encoder to turn a question into a vector.",
            field="encoder",
            remedy="Ask with vectors (Jasper.transform, Jasper.search_vectors), or name theirs: Jasper.load(RUN, "
            "encoder=...).",
        )


def checked_encoder(encoder: Encoder, expected: EncoderIdentity) -> Encoder:
    """Return `encoder` if it is the one of the vectors; of vectors without a known encoder only the width is checked.

    Raises:
        InputError: It is another one.
    """
    found = identity_of(encoder)
    if expected.name == GIVEN_VECTORS:
        same = found.dimension == expected.dimension
        difference = None if same else f"{found.dimension} dimensions, the vectors have {expected.dimension}."
    else:
        difference = expected.mismatch(found)
    if difference is not None:
        raise InputError(
            f"this encoder is not the one the vectors were made with: {difference}",
            field="encoder",
            remedy=f"Use {expected.name} as it was then, or run `jasper fit` again with the new one.",
        )
    return encoder
