"""What makes two encoders the same: the facts the numbers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EncoderIdentity:
    """Which encoder made a vector.

    Two encoders are the same if their content is, whatever they are called and wherever they lie: with
    `weights_sha256` known, `name` and `revision` are for reading only.
    """

    name: str
    """A hub name, a path, the name of a function."""
    revision: str = ""
    """Commit of the model hub, where there is one."""
    weights_sha256: str = ""
    """SHA-256 of the weights; of probe vectors where there is no weight file; "" if unknown."""
    dimension: int
    """Length D of a vector."""
    max_seq_length: int | None = None
    """Tokens read of a text, special tokens included; None: no limit or unknown."""
    query_prompt: str = ""
    """Put before every query."""
    document_prompt: str = ""
    """Put before every document."""
    dtype: str = "float32"
    """What the network computed in; stored vectors are always float32."""
    configuration_sha256: str = ""
    """SHA-256 of the files that say how the weights are used: tokenizer, architecture, pooling."""

    def prompt(self, role: Role) -> str:
        """The prompt of one role."""
        return self.query_prompt if role == "query" else self.document_prompt

    def fingerprint(self, role: Role) -> str:
        """Name of the space the vectors of one role live in.

        The prompt of that role only is part of it: a new query prompt leaves the documents' vectors valid. The role
        itself is part of it too, since an encoder may have a different network for each.

        Returns:
            32 hexadecimal digits.
        """
        text = json.dumps({"role": role, **self._content(role)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def mismatch(self, other: EncoderIdentity, role: Role | None = None) -> str | None:
        """The first difference to `other` that changes numbers, as a sentence; None if there is none.

        Args:
            other: The identity to compare with.
            role: Compare for this role only; None: for both.
        """
        mine, theirs = self._content(role), other._content(role)
        for key in sorted(mine.keys() | theirs.keys(), key=_FIELD_ORDER.index):
            if mine.get(key) != theirs.get(key):
                one_name = self.name == other.name
                names = f"two versions of {self.name!r}" if one_name else f"{self.name!r} and {other.name!r}"
                label = key.replace("_", " ").replace("sha256", "(SHA-256)")
                return f"{names} differ in {label}: {_short(getattr(self, key))} and {_short(getattr(other, key))}."
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EncoderIdentity:
        """The inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        remedy = "This record was not written by this version of jasper-rag; make it anew."
        types = {"dimension": (int,), "max_seq_length": (int, type(None))}
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(value) - known)
        missing = sorted({"name", "dimension"} - set(value))
        if unknown or missing:
            raise InputError(f"encoder identity: missing {missing}, unknown {unknown}.", remedy=remedy)
        for key, entry in value.items():
            if not isinstance(entry, types.get(key, (str,))) or isinstance(entry, bool):
                raise InputError(f"encoder identity: {entry!r} is of the wrong type.", field=key, remedy=remedy)
        return cls(**value)

    def _content(self, role: Role | None) -> dict[str, Any]:
        content = self.to_json()
        if self.weights_sha256:
            del content["name"], content["revision"]
        if role is not None:
            del content["document_prompt" if role == "query" else "query_prompt"]
        return content


_FIELD_ORDER = [field.name for field in fields(EncoderIdentity)]


@runtime_checkable
class Identified(Protocol):
    """An encoder that knows its identity, so that it need not be probed."""

    def identity(self) -> EncoderIdentity:
        """What the encoder's numbers depend on."""
        ...


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:13]}…{text[-1]}"
