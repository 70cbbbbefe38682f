"""A sentence-transformers model as an `Encoder`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from huggingface_hub.utils.tqdm import disable_progress_bars as disable_hub_bars
from huggingface_hub.utils.tqdm import enable_progress_bars as enable_hub_bars
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from jasper_rag.embedding import model_source
from jasper_rag.embedding.device import usable_device
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.sentence_encoder_config import EncoderDtype, SentenceEncoderConfig
from jasper_rag.embedding.vectors import Role, Vectors, require_texts, unit_rows
from jasper_rag.errors import InputError

_LOG = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DOCUMENT_PROMPT_NAMES = ("document", "passage", "corpus")
_NO_LIMIT = 1_000_000
"""Tokenizers without a limit report a huge number."""


class SentenceEncoder:
    """A sentence-transformers (or plain transformers, mean-pooled) model, loaded and ready.

    Within one call texts are batched by length; the composition of a batch can move the last bits of a vector.

    Args:
        name: Name on the hub, or a model folder; see `model_source.locate`.
        max_seq_length: See `SentenceEncoderConfig`, like all that follow.
        query_prompt: Put before every query.
        document_prompt: Put before every document.
        own_prompts: Use the prompts the model defines where none is given.
        device: Where to compute.
        dtype: What to compute in.
        batch_size: Texts per forward pass.
        revision: Commit, tag or branch on the hub.
        trust_remote_code: Run code that comes with the model.
        offline: Never contact a hub.

    Raises:
        InputError: The model cannot be found or loaded, or a setting does not fit it.
    """

    def __init__(
        self,
        name: str,
        *,
        max_seq_length: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        own_prompts: bool = True,
        device: str | None = None,
        dtype: EncoderDtype = "float32",
        batch_size: int = 64,
        revision: str | None = None,
        trust_remote_code: bool = False,
        offline: bool = False,
    ) -> None:
        self.config = SentenceEncoderConfig(
            name=str(name),
            max_seq_length=max_seq_length,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            own_prompts=own_prompts,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            revision=revision,
            trust_remote_code=trust_remote_code,
            offline=offline,
        )
        target = None if device is None else str(usable_device(device))
        self.folder: Path = model_source.locate(self.config.name, revision, offline)
        self.dtype: EncoderDtype = _usable_dtype(dtype, target)
        self.model = _load(self.folder, target, self.dtype, trust_remote_code)
        if max_seq_length is not None:
            _limit_length(self.model, max_seq_length)
        self._prompts: dict[Role, str] = {
            "query": query_prompt or (_own_prompt(self.model, ("query",)) if own_prompts else ""),
            "document": document_prompt or (_own_prompt(self.model, _DOCUMENT_PROMPT_NAMES) if own_prompts else ""),
        }

    @classmethod
    def from_config(cls, config: SentenceEncoderConfig) -> SentenceEncoder:
        """Load what a config describes; raises as the constructor does."""
        return cls(**asdict(config))

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._dimension

    @property
    def max_seq_length(self) -> int | None:
        """Tokens read of a text, prompt and special tokens included; None: no limit."""
        limit = self.model.max_seq_length
        return None if limit is None or limit > _NO_LIMIT else int(limit)

    def prompt(self, role: Role) -> str:
        """What is put before every text of a role."""
        return self._prompts[role]

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts; a text longer than `max_seq_length` tokens is cut.

        Returns:
            float32 [n, D], rows of unit length.

        Raises:
            InputError: A vector is not finite, or the accelerator's memory does not suffice.
        """
        require_texts(texts)
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        # The methods by role, not `encode`: a model may have a different network for each.
        method = self.model.encode_query if role == "query" else self.model.encode_document
        try:
            vectors = method(
                list(texts), prompt=self._prompts[role], batch_size=self.config.batch_size, show_progress_bar=False
            )
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of accelerator memory with batches of {self.config.batch_size} texts.",
                field="batch_size",
                remedy="Lower batch_size or max_seq_length, or use bfloat16.",
            ) from error
        return unit_rows(vectors, texts, f"encoder {self.config.name!r}")

    def identity(self) -> EncoderIdentity:
        """Everything the vectors depend on: weights, configuration, length, prompts, dtype."""
        return self._identity

    def truncated_share(
        self, texts: Sequence[str], role: Role = "document", sample: int = 2_000, seed: int = 0
    ) -> float:
        """Share of texts with more tokens than the encoder reads, in [0, 1].

        Args:
            texts: The texts; none: 0.
            role: Whose prompt to count in.
            sample: More texts than this are estimated on a sample of so many.
            seed: Of the sample.
        """
        require_texts(texts)
        limit, tokenizer = self.max_seq_length, self.model.tokenizer
        if limit is None or tokenizer is None or not texts:
            return 0.0
        chosen: Sequence[str] = texts
        if len(texts) > sample:
            rows = np.random.default_rng(seed).choice(len(texts), size=sample, replace=False)
            chosen = [texts[row] for row in np.sort(rows)]
        prompt = self._prompts[role]
        # verbose=False: the tokenizer would warn of every text that is too long, which is what we count.
        tokens = tokenizer([prompt + text for text in chosen], truncation=False, padding=False, verbose=False)[
            "input_ids"
        ]
        return float(np.mean([len(ids) > limit for ids in tokens]))

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without prompt and special tokens."""
        return len(self.model.tokenizer.tokenize(text))

    @cached_property
    def _dimension(self) -> int:
        dimension = self.model.get_embedding_dimension()
        if dimension is None:  # a custom last module need not say
            dimension = self.model.encode(["dimension"], show_progress_bar=False).shape[1]
        return int(dimension)

    @cached_property
    def _identity(self) -> EncoderIdentity:
        return EncoderIdentity(
            name=self.config.name,
            revision=model_source.commit_of(self.folder),
            weights_sha256=model_source.weights_sha256(self.folder),
            dimension=self._dimension,
            max_seq_length=self.max_seq_length,
            query_prompt=self._prompts["query"],
            document_prompt=self._prompts["document"],
            dtype=self.dtype,
            configuration_sha256=model_source.configuration_sha256(self.folder),
        )


def _load(folder: Path, device: str | None, dtype: EncoderDtype, trust_remote_code: bool) -> SentenceTransformer:
    try:
        with quiet_loading():
            model = SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                # Said explicitly: left alone, transformers takes the dtype the weights were saved in.
                model_kwargs={"dtype": _DTYPES[dtype]},
            )
    except Exception as error:
        # Whatever it is: a damaged tokenizer, for one, raises a plain Exception.
        if isinstance(error, MemoryError):
            raise
        damaged, reason = model_source.damaged_file(folder) or (folder, str(error).strip())
        raise InputError(
            f"the model cannot be loaded: {type(error).__name__}: {reason}",
            path=damaged,
            remedy="Check that the folder is complete; a model with code of its own needs trust_remote_code.",
        ) from error
    model.eval()
    return model


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No bar over the weights and no list of superfluous ones; missing weights are still reported."""
    modeling_log = logging.getLogger("transformers.modeling_utils")
    bars, hub_bars_off = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    modeling_log.addFilter(_is_not_harmless_report)
    with warnings.catch_warnings(action="ignore"):  # the switches warn where the environment fixes them
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        modeling_log.removeFilter(_is_not_harmless_report)
        with warnings.catch_warnings(action="ignore"):
            if bars:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
            # The switches of transformers throw the hub's as well.
            if hub_bars_off:
                disable_hub_bars()
            else:
                enable_hub_bars()


def _is_not_harmless_report(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "LOAD REPORT" not in message or "MISSING" in message or "MISMATCH" in message


def _usable_dtype(dtype: EncoderDtype, device: str | None) -> EncoderDtype:
    gpu_found = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = device.startswith("cpu") if device is not None else not gpu_found
    if dtype != "float32" and on_cpu:
        _LOG.warning("%s is slower than float32 on a CPU; encoding in float32", dtype)
        return "float32"
    return dtype


def _limit_length(model: SentenceTransformer, max_seq_length: int) -> None:
    positions: Any = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and max_seq_length > positions:
        raise InputError(
            f"{max_seq_length} tokens; this model has {positions} positions.",
            field="max_seq_length",
            remedy=f"Give at most {positions}, or leave it out for the model's own {model.max_seq_length}.",
        )
    try:
        model.max_seq_length = max_seq_length
    except AttributeError as error:  # static embeddings have no setter
        raise InputError(
            "this model reads texts of any length; it cannot be limited.",
            field="max_seq_length",
            remedy="Leave it out.",
        ) from error


def _own_prompt(model: SentenceTransformer, names: Sequence[str]) -> str:
    # A first name that is defined but empty does not hide a later one: an empty "document" is the library's default.
    prompts = (model.prompts.get(name) for name in names)
    return next((prompt for prompt in prompts if prompt), "")
