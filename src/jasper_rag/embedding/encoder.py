"""The seam to any embedding model: one method, and the ways to get an object that has it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jasper_rag.embedding.encoder_identity import EncoderIdentity as EncoderIdentity
from jasper_rag.embedding.encoder_identity import Identified
from jasper_rag.embedding.gaussian_source import gaussian_checkpoint_encoder, is_gaussian_checkpoint
from jasper_rag.embedding.vectors import Role as Role
from jasper_rag.embedding.vectors import Vectors as Vectors
from jasper_rag.embedding.vectors import excerpt, require_texts, unit_rows
from jasper_rag.errors import InputError

_PROBES = (
    "How do I list the files of a folder?",
    "The heart pumps blood through the body, about five litres a minute.",
    "def add(a, b): return a + b",
)


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return float32 [n, D], rows of unit length, in the order of `texts`."""
        ...


@runtime_checkable
class _EncodesByMethod(Protocol):
    """The sentence-transformers spelling: one method per role."""

    def encode_query(self, inputs: list[str], /) -> object: ...

    def encode_document(self, inputs: list[str], /) -> object: ...


class CallableEncoder:
    """A function from a list of texts to vectors, as an `Encoder`.

    Args:
        function: list[str] -> array-like [n, D]; rows need not be normalised.
        query_function: Another function for queries; None: the same one.
        name: Shown in messages and reports; the function's own name by default.
    """

    def __init__(
        self,
        function: Callable[[list[str]], object],
        query_function: Callable[[list[str]], object] | None = None,
        name: str = "",
    ) -> None:
        self._functions = {"document": function, "query": query_function or function}
        self.name = name or _qualified_name(function)

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Call the function and normalise what it returns.

        Returns:
            float32 [n, D]; [0, 0] for no texts.

        Raises:
            InputError: The function returned something else than n finite, non-zero vectors.
        """
        require_texts(texts)
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        return unit_rows(self._functions[role](list(texts)), texts, f"encoder {self.name!r}")


class PrecomputedEncoder:
    """Vectors computed elsewhere, looked up by their text; both roles share them.

    Args:
        texts: n texts.
        vectors: Array-like [n, D], row i belongs to text i; normalised here.
        name: Shown in messages and reports.

    Raises:
        InputError: Counts differ, a vector is unusable, or one text comes with two different vectors.
    """

    def __init__(self, texts: Sequence[str], vectors: object, name: str = "precomputed vectors") -> None:
        require_texts(texts)
        if not texts:
            raise InputError("precomputed vectors: no texts were given.", remedy="Give at least one text and vector.")
        self.name = name
        self._vectors = unit_rows(vectors, texts, name)
        self._rows: dict[str, int] = {}
        for row, text in enumerate(texts):
            first = self._rows.setdefault(text, row)
            if first != row and not np.allclose(self._vectors[first], self._vectors[row], atol=1e-4):
                raise InputError(
                    f"{name}: rows {first} and {row} are one text ({excerpt(text)}) with two different vectors.",
                    remedy="Keep one vector per text.",
                )

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Look the texts up; `role` makes no difference.

        Returns:
            float32 [n, D].

        Raises:
            InputError: A text has no vector; the message names it.
        """
        require_texts(texts)
        unknown = [text for text in texts if text not in self._rows]
        if unknown:
            raise InputError(
                f"{self.name}: no vector for {len(unknown)} of {len(texts)} texts, first {excerpt(unknown[0])}.",
                remedy="Add its vector; texts are matched exactly, a document's title included.",
            )
        return self._vectors[np.array([self._rows[text] for text in texts], dtype=np.int64)]

    def identity(self) -> EncoderIdentity:
        """Name, dimension, and a hash over every text and vector, whatever their order."""
        entries = sorted(
            hashlib.sha256(text.encode("utf-8") + b"\0" + self._vectors[row].tobytes()).digest()
            for text, row in self._rows.items()
        )
        digest = hashlib.sha256(b"".join(entries)).hexdigest()
        return EncoderIdentity(name=self.name, weights_sha256=digest, dimension=self._vectors.shape[1])


def as_encoder(source: object) -> Encoder:
    """Make an `Encoder` of whatever holds an embedding model.

    Args:
        source: One of

            - an `Encoder`: returned as it is;
            - a name or path of a sentence-transformers model, or a checkpoint of a Gaussian encoder (.pt): loaded;
            - an object with `encode_query` and `encode_document`, or with `encode(texts)`;
            - a function list[str] -> array-like [n, D];
            - a mapping text -> vector, or a pair (texts, vectors): looked up.

    Raises:
        InputError: None of these, or the model cannot be had.
    """
    if isinstance(source, str | Path):
        if is_gaussian_checkpoint(source):
            return gaussian_checkpoint_encoder(source)
        from jasper_rag.embedding.sentence_encoder import SentenceEncoder  # torch is needed from here on

        return SentenceEncoder(str(source))
    if isinstance(source, Mapping):
        return PrecomputedEncoder(list(source), list(source.values()))
    if isinstance(source, tuple | list) and len(source) == 2:
        return PrecomputedEncoder(list(source[0]), source[1])
    if isinstance(source, Encoder) and not isinstance(source, type):
        return source if "role" in inspect.signature(source.encode).parameters else _from_methods(source)
    if callable(source) and not isinstance(source, type):
        return CallableEncoder(source)
    given = f"the class {source.__name__}" if isinstance(source, type) else type(source).__name__
    raise InputError(
        f"an encoder cannot be made of {given}.",
        remedy="Give a model name or path, a function from texts to vectors, an object with encode(texts, role), "
        "or a mapping from text to vector.",
    )


def _from_methods(source: Any) -> CallableEncoder:
    name = _qualified_name(source)
    if isinstance(source, _EncodesByMethod):
        return CallableEncoder(source.encode_document, source.encode_query, name=name)
    return CallableEncoder(source.encode, name=name)


def identity_of(encoder: Encoder) -> EncoderIdentity:
    """What the encoder's numbers depend on.

    An encoder without an `identity()` is known by its name and by the vectors it gives to three fixed sentences in
    both roles, rounded to 2 decimals: with some thousand values, a change of 1e-4 in each is still seen, while noise
    in the last bit of a float32 (another number of threads) is not taken for another encoder.

    Raises:
        InputError: The probe vectors are unusable.
    """
    if isinstance(encoder, Identified):
        return encoder.identity()
    name = encoder.name if isinstance(encoder, CallableEncoder) else _qualified_name(encoder)
    source = f"encoder {name!r}"
    documents = unit_rows(encoder.encode(_PROBES, "document"), _PROBES, source)
    queries = unit_rows(encoder.encode(_PROBES, "query"), _PROBES, source)
    if documents.shape != queries.shape:
        raise InputError(
            f"{source} has {documents.shape[1]} dimensions for documents and {queries.shape[1]} for queries.",
            remedy="Both must live in one space.",
        )
    # + 0.0 turns -0.0 into 0.0: equal numbers must hash alike.
    rounded = np.round(np.concatenate([documents, queries]), 2) + np.float32(0.0)
    digest = hashlib.sha256(name.encode() + b"\0" + rounded.astype("<f4").tobytes()).hexdigest()
    return EncoderIdentity(name=name, weights_sha256=digest, dimension=documents.shape[1])


def _qualified_name(thing: object) -> str:
    # A function or class carries its own name; an instance has its type's.
    named = thing if isinstance(getattr(thing, "__qualname__", None), str) else type(thing)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}"
