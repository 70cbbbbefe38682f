"""BM25 over stemmed words: full score rows for fusion, top-k for search.

    score(q, d) = sum_{t in q} ln(1 + (N - n_t + .5) / (n_t + .5)) * f_td / (f_td + k1 (1 - b + b |d| / avg|d|))

The variant called "lucene (accurate)" by Kamphuis et al. 2020. Impacts are computed once, by bm25s (arXiv:2407.03618);
a query then only adds up the postings of its words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from bm25s import BM25
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jasper_rag.atomic_files import replacing, write_json
from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, row_top_k
from jasper_rag.progress import progress_bar
from jasper_rag.text.words import WordAnalyser

FORMAT_VERSION = 1
_QUERY_BLOCK = 64
_POSTINGS, _DESCRIPTION = "postings.safetensors", "lexical.json"
_FIELDS = {"postings_sha256", "language", "stop_words", "k1", "b", "documents", "vocabulary"}


class LexicalIndex:
    """A BM25 index over N documents. Make one with `build` or `load`; reading it is safe from several threads.

    Args:
        impacts: float32 [n], BM25 contribution of each (word, document) pair, grouped by word.
        documents: int32 [n], the document row of each pair.
        indptr: int64 [V + 1]; word v owns pairs `indptr[v]:indptr[v + 1]`.
        vocabulary: Stem -> v.
        size: N.
        analyser: How texts become stems.
        k1: Saturation of repeated words.
        b: Strength of the length correction.
    """

    def __init__(
        self,
        impacts: NDArray[np.float32],
        documents: NDArray[np.int32],
        indptr: NDArray[np.int64],
        vocabulary: dict[str, int],
        *,
        size: int,
        analyser: WordAnalyser,
        k1: float,
        b: float,
    ) -> None:
        self._impacts, self._documents, self._indptr = impacts, documents, indptr
        self._vocabulary, self._size, self._analyser = vocabulary, size, analyser
        self.k1, self.b = k1, b

    @classmethod
    def build(cls, texts: Sequence[str], language: str = "english", k1: float = 1.5, b: float = 0.75) -> Self:
        """Index `texts`, one per document row.

        Args:
            texts: N documents. One without a word scores 0 for every query.
            language: One of `words.LANGUAGES`; "none": no stemming, no stop words.
            k1: At least 0.
            b: In [0, 1].

        Raises:
            InputError: For no document, an unknown language, or k1 or b out of range.
        """
        analyser = WordAnalyser.of(language)
        if not texts:
            raise InputError("cannot index 0 documents", remedy="Give at least one text.")
        if not (k1 >= 0 and 0 <= b <= 1):
            raise InputError(f"k1 = {k1}, b = {b}", remedy="BM25 needs k1 >= 0 and 0 <= b <= 1.", field="k1, b")
        vocabulary: dict[str, int] = {}
        ids = []
        with progress_bar(len(texts), "reading words", "documents") as bar:
            for stems in analyser.stems(texts):
                ids.append([vocabulary.setdefault(stem, len(vocabulary)) for stem in stems])
                bar.update()
        impacts, documents = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32)
        indptr = np.zeros(1, dtype=np.int64)
        if vocabulary:
            bm25 = BM25(k1=k1, b=b, method="lucene", dtype="float32", int_dtype="int32", backend="numpy")
            scores = bm25.build_index_from_ids(list(vocabulary.values()), ids, show_progress=False)
            impacts, documents, indptr = scores["data"], scores["indices"], scores["indptr"].astype(np.int64)
        return cls(impacts, documents, indptr, vocabulary, size=len(texts), analyser=analyser, k1=k1, b=b)

    def __len__(self) -> int:
        return self._size

    @property
    def language(self) -> str:
        """The language the index was built for."""
        return self._analyser.language

    def scores(self, texts: Sequence[str]) -> FloatMatrix:
        """BM25 of every document for every query, float32 [Q, N], all >= 0.

        A query without a known word (nothing but stop words, say) scores 0 everywhere.
        Memory is O(Q N): give some tens of queries at a time.
        """
        rows = np.zeros((len(texts), self._size), dtype=np.float32)
        for row, stems in zip(rows, self._analyser.stems(texts), strict=True):
            for word in (self._vocabulary[stem] for stem in stems if stem in self._vocabulary):
                postings = slice(self._indptr[word], self._indptr[word + 1])
                # A document occurs once among a word's postings, so plain indexed addition is safe.
                row[self._documents[postings]] += self._impacts[postings]
        return rows

    def search(self, texts: Sequence[str], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """The k best documents that share a word with the query.

        Args:
            texts: Q queries.
            k: At least 1.

        Returns:
            Scores float32 [Q, min(k, N)], descending, and document rows int64; ties by the smaller row. Where fewer
            documents share a word with the query, the rest has row -1 and score -inf.
        """
        found = []
        for start in range(0, max(len(texts), 1), _QUERY_BLOCK):
            scores = self.scores(texts[start : start + _QUERY_BLOCK])
            scores[scores == 0] = -np.inf
            found.append(row_top_k(scores, k))
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def save(self, directory: str | Path) -> None:
        """Write `postings.safetensors` and `lexical.json` into `directory` (made if missing)."""
        directory = Path(directory)
        with replacing(directory / _POSTINGS) as temporary:
            arrays = {"impacts": self._impacts, "documents": self._documents, "indptr": self._indptr}
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
            digest = _sha256(temporary)
        description = {
            "format_version": FORMAT_VERSION,
            "postings_sha256": digest,
            "language": self._analyser.language,
            "stop_words": sorted(self._analyser.stop_words),
            "k1": self.k1,
            "b": self.b,
            "documents": self._size,
            "vocabulary": list(self._vocabulary),
        }
        write_json(directory / _DESCRIPTION, description)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote; scores are identical.

        Raises:
            InputError: If a file is missing, damaged, of another version, or does not belong to the other one.
        """
        path = Path(directory) / _DESCRIPTION
        description = _read_description(path)
        arrays = _read_postings(path.with_name(_POSTINGS), description["postings_sha256"])
        return cls(
            arrays["impacts"],
            arrays["documents"],
            arrays["indptr"],
            {stem: position for position, stem in enumerate(description["vocabulary"])},
            size=description["documents"],
            analyser=WordAnalyser(description["language"], frozenset(description["stop_words"])),
            k1=description["k1"],
            b=description["b"],
        )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        missing = _FIELDS - set(description)
    except OSError as error:
        raise InputError(
            f"no BM25 index here ({error.strerror})", remedy="Build it and save it first.", path=path
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("not the description of a BM25 index", remedy="Build the index again.", path=path) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"format version {version!r}, but this program reads {FORMAT_VERSION}",
            remedy="Build the index again.",
            path=path,
            field="format_version",
        )
    if missing:
        raise InputError(f"without {', '.join(sorted(missing))}", remedy="Build the index again.", path=path)
    return dict(description)


def _read_postings(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    remedy = "Build the index again."
    try:
        if _sha256(path) != digest:
            raise InputError(
                f"does not belong to the {_DESCRIPTION} beside it (sha256 differs)", remedy=remedy, path=path
            )
        return dict(load_file(path))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", remedy=remedy, path=path) from error
    except SafetensorError as error:
        raise InputError(f"not a safetensors file ({error})", remedy=remedy, path=path) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
