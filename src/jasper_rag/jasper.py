"""Jasper: documents and questions in, measurably better retrieval out; the whole flow as one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet, embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, as_encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import Comparison, QueryVectors, choose_fusion_weights, compare
from jasper_rag.evaluation.linear_adapter import train_linear_adapter
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.saved_model import SavedModel, read_description, read_model, write_model
from jasper_rag.text.in_memory import Corpus, Questions, retrieval_set_of
from jasper_rag.text.leakage import LeakReport, leak_report
from jasper_rag.text.records import Document, RetrievalSet
from jasper_rag.text.splitting import ensure_splits
from jasper_rag.training.guard_fitting import FittedGuard, fit_guard
from jasper_rag.training.predictor_training import TrainedPredictor, predict, train_predictor
from jasper_rag.training.training_pairs import training_pairs

MODEL_FOLDER = "model"

Ranker = Literal["hybrid", "dense", "plain"]
"""JASPER with BM25, JASPER alone, or the question alone."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found document: its rank from 1, and the score it was ranked by."""

    rank: int
    score: float
    document: Document


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What `Jasper.fit` saw and measured; kept with the object, not with a saved model.

    Args:
        embedded: The vectors and judgements of every split.
        leaks: What the splits share.
        trained: The predictor's training.
        guard: The guard's dev curve.
        comparison: All systems on the test split; None when there is no test question.
        truncated_share: Share of documents longer than the encoder reads; None if the encoder cannot tell.
    """

    embedded: EmbeddedSet
    leaks: LeakReport
    trained: TrainedPredictor
    guard: FittedGuard
    comparison: Comparison | None
    truncated_share: float | None


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
            InputError: Unusable documents, questions, splits or encoder.
        """
        config = config or JasperConfig()
        retrieval_set = _as_set(corpus, questions)
        splits = ensure_splits(retrieval_set, config.seed)
        if not {"train", "dev"} <= splits.qrels.keys():
            raise InputError(
                f"{splits.name} has no questions to train on (splits: {', '.join(sorted(splits.qrels)) or 'none'}).",
                remedy="Add qrels/train.tsv, or evaluate a run on this set: jasper evaluate --run R --data D.",
            )
        usable = _usable_encoder(encoder, config, offline)
        embedded = embed_set(splits, usable, store or EmbeddingStore())
        record, model = _fit_embedded(embedded, leak_report(splits), usable, config)
        return cls(model, usable, record, offline=offline)

    def transform(self, query_vectors: Vectors, *, gated: bool = True) -> Vectors:
        """Question vectors to search vectors: float32 [Q, D] in, float32 [Q, D] unit rows out.

        Args:
            query_vectors: From the same encoder as the documents.
            gated: False leaves the per-question gate out.

        Raises:
            InputError: Another width than the documents'.
        """
        dimension = self.model.vectors.shape[1]
        if query_vectors.ndim != 2 or query_vectors.shape[1] != dimension:
            remedy = f"Give an array of shape [questions, {dimension}] from the encoder {self.model.identity.name}."
            raise InputError(f"question vectors of shape {list(query_vectors.shape)}.", remedy=remedy)
        return self.model.guard.blend(query_vectors, predict(self.model.predictor, query_vectors), gated=gated)

    def search(self, question: str, k: int = 10, ranker: Ranker = "hybrid") -> list[SearchHit]:
        """The k best documents for one question, best first.

        Raises:
            InputError: The question is empty or k is not positive.
        """
        return self.search_many([question], k, ranker)[0]

    def search_many(self, questions: Sequence[str], k: int = 10, ranker: Ranker = "hybrid") -> list[list[SearchHit]]:
        """`search` of several questions at once."""
        if k < 1 or not all(question.strip() for question in questions):
            raise InputError("a question is empty or k is below 1.", remedy="Give a question, and k >= 1.")
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
            InputError: The set has no such split.
        """
        if split not in retrieval_set.qrels:
            found = ", ".join(sorted(retrieval_set.qrels)) or "none"
            raise InputError(f"{retrieval_set.name} has no split {split!r} (found: {found}).", remedy="Choose another.")
        only = replace(retrieval_set, qrels={split: retrieval_set.qrels[split]})
        embedded = embed_set(only, self.encoder, store or EmbeddingStore())
        lexical = LexicalIndex.build([d.content for d in embedded.documents], self.model.config["language"])
        return _compare(embedded, split, self.model, lexical, {}, None)

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
        read_description(folder)
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
        return corpus
    if questions is None:
        raise InputError(
            "documents without questions.", field="questions", remedy="Give (question, document id) pairs."
        )
    return retrieval_set_of(corpus, questions)


def _usable_encoder(encoder: object, config: JasperConfig, offline: bool) -> Encoder:
    if encoder is not None:
        return as_encoder(encoder)
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


def _fit_embedded(
    embedded: EmbeddedSet, leaks: LeakReport, encoder: Encoder, config: JasperConfig
) -> tuple[FitRecord, SavedModel]:
    dev, documents = embedded.splits["dev"], embedded.vectors
    texts = [document.content for document in embedded.documents]
    lexical = LexicalIndex.build(texts, config.language)
    pairs = training_pairs(embedded)
    predictor = JASPERPredictorConfig(embedding_dim=documents.shape[1], mlp=False)
    trained = train_predictor(pairs, dev, documents, predictor, config.training, config.seed)
    predictions = predict(trained.model, dev.vectors)
    fitted = fit_guard(embedded.splits["train"].vectors, dev, predictions, documents, config.guard, config.seed)
    shipped = fitted.guard.blend(dev.vectors, predictions)
    weights = choose_fusion_weights(dev, QueryVectors(dev.vectors, shipped, shipped), documents, lexical)
    model = SavedModel(
        config=config.model_dump(),
        identity=identity_of(encoder),
        documents=embedded.documents,
        vectors=documents,
        lexical=lexical,
        predictor=trained.model,
        guard=fitted.guard,
        weights=weights,
        name=embedded.name,
    )
    comparison = None
    if "test" in embedded.splits:
        adapter = train_linear_adapter(pairs)
        adapted = adapter.transform(embedded.splits["test"].vectors)
        seconds = {"linear_adapter": adapter.cpu_seconds}
        seconds |= dict.fromkeys(("jasper_ungated", "jasper", "rrf_jasper", "hybrid"), trained.cpu_seconds)
        comparison = _compare(embedded, "test", model, lexical, seconds, adapted)
    truncated = encoder.truncated_share(texts) if isinstance(encoder, SentenceEncoder) else None
    return FitRecord(embedded, leaks, trained, fitted, comparison, truncated), model


def _compare(
    embedded: EmbeddedSet,
    split: str,
    model: SavedModel,
    lexical: LexicalIndex,
    train_seconds: dict[str, float],
    adapted: Vectors | None,
) -> Comparison:
    queries: EmbeddedQueries = embedded.splits[split]
    predictions = predict(model.predictor, queries.vectors)
    blend = model.guard.blend
    vectors = QueryVectors(
        plain=np.ascontiguousarray(queries.vectors),
        ungated=blend(queries.vectors, predictions, gated=False),
        shipped=blend(queries.vectors, predictions),
        adapter=adapted,
    )
    return compare(
        dataset=embedded.name,
        split=split,
        queries=queries,
        vectors=vectors,
        documents=embedded.vectors,
        document_ids=[document.id for document in embedded.documents],
        lexical=lexical,
        weights=model.weights,
        alpha=model.guard.alpha,
        train_seconds=train_seconds,
        seed=int(model.config["seed"]),
    )
