"""Settings of a sentence encoder; importing this never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jasper_rag.embedding.vectors import require_unicode
from jasper_rag.errors import InputError

EncoderDtype = Literal["float32", "bfloat16", "float16"]
"""What the network computes in."""


@dataclass(frozen=True, kw_only=True)
class SentenceEncoderConfig:
    """Which model, and how it reads a text.

    Raises:
        InputError: A value out of range.
    """

    name: str
    """Name on a model hub, or a model folder."""
    max_seq_length: int | None = None
    """Tokens read of a text, special tokens included; None: the model's own limit. Fewer are faster."""
    query_prompt: str = ""
    """Put before every query; "": the model's own query prompt, if it defines one."""
    document_prompt: str = ""
    """Put before every document; "": the model's own document prompt, if it defines one."""
    own_prompts: bool = True
    """Use the prompts that the model defines where none is given above; False: no prompt but those above."""
    device: str | None = None
    """"cpu", "cuda", "cuda:1", "mps"; None: a GPU if there is one."""
    dtype: EncoderDtype = "float32"
    """Half precision is for GPUs; on a CPU it is slower and float32 is used."""
    batch_size: int = 64
    """Texts per forward pass."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None: the main branch."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust."""
    offline: bool = False
    """Never contact a hub."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.name.strip():
            raise InputError("the encoder's name is empty.", field="name", remedy="Give a model name or a folder.")
        if self.batch_size < 1:
            raise InputError(f"{self.batch_size} is not a batch size.", field="batch_size", remedy="Give 1 or more.")
        if self.max_seq_length is not None and self.max_seq_length < 3:
            raise InputError(
                f"{self.max_seq_length} tokens leave no room for text.",
                field="max_seq_length",
                remedy="Give at least 3 (two special tokens and one of the text); 128 to 512 is usual.",
            )
        for field in ("query_prompt", "document_prompt"):
            require_unicode(getattr(self, field), f"the {field}", field)
        choices = get_args(EncoderDtype)
        if self.dtype not in choices:
            remedy = f"Choose from {', '.join(choices)}."
            raise InputError(f"{self.dtype!r} is not a dtype.", field="dtype", remedy=remedy)
