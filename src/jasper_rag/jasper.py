"""Jasper: documents and questions in, measurably better retrieval out; the whole flow as one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from jasper_rag.embedding.embedded_set import embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, as_encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.fitting import FitRecord as FitRecord
from jasper_rag.fitting import compare_model, fit_model
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.guard import unit
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.words import WordAnalyser
from jasper_rag.saved_model import SavedModel, read_model, write_model
from jasper_rag.text.in_memory import Corpus, Questions, retrieval_set_of
from jasper_rag.text.leakage import leak_report
from jasper_rag.text.records import Document, Qrels, RetrievalSet
from jasper_rag.text.splitting import ensure_splits
from jasper_rag.training.predictor_training import predict

MODEL_FOLDER = "model"

Ranker = Literal["hybrid", "dense", "plain"]
"""JASPER with BM25, JASPER alone, or the question alone."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found document: its rank from 1, and the score it was ranked by."""

    rank: int
    score: float
    document: Document


class Jasper:
    """A corpus that can be searched better than by its encoder alone.

    Make one with `Jasper.fit` or `Jasper.load`.

    Args:
        model: Everything a search needs.
        encoder: The encoder of its vectors; None resolves the saved one when first needed.
        record: Of the fit, if this object was fitted in this process.
        offline: Never contact a model hub.
    """

    def __init__(
        self,
        model: SavedModel,
        encoder: Encoder | None = None,
        record: FitRecord | None = None,
        *,
        offline: bool = False,
    ) -> None:
        self.model = model
        self.record = record
        self._encoder = encoder
        self._offline = offline

    @classmethod
    def fit(
        cls,
        corpus: RetrievalSet | Corpus,
        questions: Questions | None = None,
        *,
        encoder: object = None,
        config: JasperConfig | None = None,
        store: EmbeddingStore | None = None,
        offline: bool = False,
    ) -> Jasper:
        """Embed, train, guard, and compare on the test split.

        Args:
            corpus: A retrieval set (its splits are kept), or documents.
            questions: (question, document id) pairs, with a corpus of documents.
            encoder: An `Encoder`, a model name, a function; None takes the config's.
            config: Every other setting.
            store: Where embeddings are cached; None uses the user's cache folder.
            offline: Never contact a model hub.

        Raises:
            InputError: Unusable documents, questions, splits, settings or encoder.
        """
        config = config or JasperConfig()
        # All that can be wrong is looked at before the encoder is loaded and every text embedded.
        splits = _trainable(_as_set(corpus, questions), config.seed)
        WordAnalyser.of(config.language)
        usable = _usable_encoder(encoder, config, offline)
        embedded = embed_set(splits, usable, store or EmbeddingStore())
        record, model = fit_model(embedded, leak_report(splits), usable, config)
        return cls(model, usable, record, offline=offline)

    def transform(self, query_vectors: Vectors, *, gated: bool = True) -> Vectors:
        """Question vectors to search vectors: float32 [Q, D] in, float32 [Q, D] unit rows out.

        Args:
            query_vectors: From the same encoder as the documents; scaled to unit length where they are not.
            gated: False leaves the per-question gate out.

        Raises:
            InputError: Another width than the documents'.
        """
        dimension = self.model.vectors.shape[1]
        if query_vectors.ndim != 2 or query_vectors.shape[1] != dimension:
            remedy = f"Give an array of shape [questions, {dimension}] from the encoder {self.model.identity.name}."
            raise InputError(f"question vectors of shape {list(query_vectors.shape)}.", remedy=remedy)
        questions = np.ascontiguousarray(query_vectors, dtype=np.float32)
        if not np.allclose(np.linalg.norm(questions, axis=1), 1.0, atol=1e-3):
            questions = unit(questions)
        return self.model.guard.blend(questions, predict(self.model.predictor, questions), gated=gated)

    def search(self, question: str, k: int = 10, ranker: Ranker = "hybrid") -> list[SearchHit]:
        """The k best documents for one question, best first.

        Raises:
            InputError: The question is empty or k is not positive.
        """
        return self.search_many([question], k, ranker)[0]

    def search_many(self, questions: Sequence[str], k: int = 10, ranker: Ranker = "hybrid") -> list[list[SearchHit]]:
        """`search` of several questions at once."""
        if k < 1:
            raise InputError(f"{k} documents were asked for.", field="k", remedy="Give k >= 1.")
        if not all(question.strip() for question in questions):
            raise InputError("the question is empty.", field="question", remedy="Ask with at least one word.")
        if not questions:
            return []
        vectors = self.encoder.encode(list(questions), "query")
        retriever = HybridRetriever(self.model.vectors, self.model.lexical, self.model.weights.jasper)
        if ranker == "plain":
            scores, rows = retriever.dense(vectors, k)
        elif ranker == "dense":
            scores, rows = retriever.dense(self.transform(vectors), k)
        else:
            scores, rows = retriever.hybrid(self.transform(vectors), questions, k)
        return [
            [
                SearchHit(rank, float(score), self.model.documents[row])
                for rank, (score, row) in enumerate(zip(question_scores, question_rows, strict=True), start=1)
            ]
            for question_scores, question_rows in zip(scores, rows, strict=True)
        ]

    def evaluate(
        self, retrieval_set: RetrievalSet, split: str = "test", *, store: EmbeddingStore | None = None
    ) -> Comparison:
        """Compare the trained search with the plain encoder and BM25 on any set, in its own corpus.

        Raises:
            InputError: The set has no such split, or the split no question with a relevant document.
        """
        only = replace(retrieval_set, qrels={split: _answered_split(retrieval_set, split)})
        embedded = embed_set(only, self.encoder, store or EmbeddingStore())
        lexical = LexicalIndex.build([d.content for d in embedded.documents], self.model.config["language"])
        return compare_model(embedded, split, self.model, lexical)

    def save(self, directory: str | Path) -> None:
        """Write the model; an older one at `directory` is replaced only when the new one is complete."""
        write_model(self.model, directory)

    @classmethod
    def load(cls, directory: str | Path, *, encoder: object = None, offline: bool = False) -> Jasper:
        """Load what `save`, or `jasper fit`, wrote.

        Args:
            directory: The model folder, or a run directory that has one.
            encoder: Must be the encoder of the saved vectors; None loads the saved one by name when needed.
            offline: Never contact a model hub.

        Raises:
            InputError: No model, a damaged one, or another encoder.
        """
        folder = Path(directory)
        if (folder / MODEL_FOLDER).is_dir():
            folder = folder / MODEL_FOLDER
        jasper = cls(read_model(folder), None, offline=offline)
        if encoder is not None:
            jasper._encoder = _checked_encoder(as_encoder(encoder), jasper.model.identity)
        return jasper

    @property
    def encoder(self) -> Encoder:
        """The encoder of the model's vectors, loaded when first needed.

        Raises:
            InputError: It cannot be had, or it is not the one the vectors were made with.
        """
        if self._encoder is None:
            config = JasperConfig.model_validate(self.model.config)
            self._encoder = _checked_encoder(_usable_encoder(None, config, self._offline), self.model.identity)
        return self._encoder


def _as_set(corpus: RetrievalSet | Corpus, questions: Questions | None) -> RetrievalSet:
    if isinstance(corpus, RetrievalSet):
        if questions is not None:
            remedy = "Give one of the two: a retrieval set holds its own questions."
            raise InputError("a retrieval set and questions beside it.", field="questions", remedy=remedy)
        return corpus
    if questions is None:
        raise InputError(
            "documents without questions.", field="questions", remedy="Give (question, document id) pairs."
        )
    return retrieval_set_of(corpus, questions)


def _trainable(retrieval_set: RetrievalSet, seed: int) -> RetrievalSet:
    """Return the set with train, dev and test, each with a question that has an answer."""
    splits = ensure_splits(retrieval_set, seed)
    if "train" not in splits.qrels:
        raise InputError(
            f"{splits.name} has no questions to train on (splits: {', '.join(sorted(splits.qrels))}).",
            remedy="Add qrels/train.tsv, or evaluate a run on this set: jasper evaluate --run R --data D.",
        )
    for split in splits.qrels:
        _answered_split(splits, split)
    return splits


def _answered_split(retrieval_set: RetrievalSet, split: str) -> Qrels:
    found = ", ".join(sorted(retrieval_set.qrels))
    if split not in retrieval_set.qrels:
        remedy = f"Choose one of these: {found}." if found else "Add judged questions, such as qrels/test.tsv."
        raise InputError(f"{retrieval_set.name} has no split {split!r}.", field="split", remedy=remedy)
    qrels = retrieval_set.qrels[split]
    if not any(grade > 0 for grades in qrels.values() for grade in grades.values()):
        problem = f"no question of {retrieval_set.name}, split {split!r}, has a relevant document."
        raise InputError(problem, field="split", remedy="Add judgements above 0, or name the splits yourself.")
    return qrels


def _usable_encoder(encoder: object, config: JasperConfig, offline: bool) -> Encoder:
    if encoder is not None:
        return as_encoder(encoder)
    # Loaded here: it takes longer to import than all the rest, and an encoder of one's own needs none of it.
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    return SentenceEncoder.from_config(config.encoder.to_encoder_config(offline=offline))


def _checked_encoder(encoder: Encoder, expected: EncoderIdentity) -> Encoder:
    difference = expected.mismatch(identity_of(encoder))
    if difference is not None:
        raise InputError(
            f"this encoder is not the one the vectors were made with: {difference}",
            field="encoder",
            remedy=f"Use {expected.name} as it was then, or run `jasper fit` again with the new one.",
        )
    return encoder
