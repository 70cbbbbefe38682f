"""What a fit starts from: texts to be encoded, or vectors as they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import (
    EmbeddedSet,
    answered,
    embed_set,
    judged_splits,
    text_groups,
)
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, identity_of
from jasper_rag.embedding.given_set import GivenSet, vector_groups
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.encoder_choice import given_vectors_identity, usable_encoder
from jasper_rag.errors import InputError
from jasper_rag.fitting.model_fitting import FitRecord, fit_model
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.guard import unit
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.in_memory import Corpus, Questions, retrieval_set_of
from jasper_rag.text.leakage import text_key
from jasper_rag.text.records import RetrievalSet
from jasper_rag.text.training_questions import TrainingQuestions, training_questions
from jasper_rag.text.words import WordAnalyser

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model, what its fit saw, and the encoder of its vectors (None where vectors were given)."""

    model: SavedModel
    record: FitRecord
    encoder: Encoder | None = None


def fit_texts(
    retrieval_set: RetrievalSet, encoder: object, config: JasperConfig, store: EmbeddingStore, *, offline: bool
) -> Fitted:
    """Find or make questions, embed everything, and fit; arguments and errors as `Jasper.fit`."""
    # All that can be wrong is looked at before the encoder is loaded and every text embedded.
    _require_distinct(retrieval_set)
    asked = training_questions(retrieval_set, config.pseudo_questions, config.seed, language=config.language)
    WordAnalyser.of(config.language)
    usable = usable_encoder(encoder, config, offline=offline)
    _announce(asked)
    embedded = embed_set(asked.retrieval_set, usable, store, config.chunking)
    # Only an encoder that cuts its texts can tell how many.
    count = getattr(usable, "truncated_share", None)
    whole = count is not None and embedded.vectors.passages is None
    truncated = float(count([document.content for document in embedded.documents])) if whole and count else None
    record, model = fit_model(asked, embedded, identity_of(usable), config, truncated)
    return Fitted(model, record, usable)


def fit_given_vectors(
    retrieval_set: RetrievalSet, document_vectors: Vectors, query_vectors: Vectors, config: JasperConfig
) -> Fitted:
    """Fit on vectors; arguments and errors as `Jasper.fit_vectors`."""
    WordAnalyser.of(config.language)
    if config.chunking.how != "none":
        remedy = "Leave the section chunking out, or give every passage as a document of its own."
        raise InputError("vectors of whole documents cannot be cut.", field="chunking.how", remedy=remedy)
    documents = unit_vectors(document_vectors, len(retrieval_set.documents), "documents")
    queries = unit_vectors(query_vectors, len(retrieval_set.queries), "queries")
    if documents.shape[1] != queries.shape[1]:
        problem = f"documents have {documents.shape[1]} dimensions, queries {queries.shape[1]}."
        raise InputError(problem, field="vectors", remedy="Take both from one encoder.")
    questions = config.pseudo_questions
    training_questions(retrieval_set, questions, config.seed, encodable=False)  # refuses too few
    given = GivenSet(retrieval_set.name, retrieval_set, documents, queries).split(config.seed)
    # They were enough before a part of them became the test.
    enough = questions.model_copy(update={"fewest_labelled": 0})
    asked = training_questions(given.retrieval_set, enough, config.seed, encodable=False)
    _announce(asked)
    order = [query for qrels in asked.retrieval_set.qrels.values() for query in answered(qrels)]
    has_text = any(document.content.strip() for document in retrieval_set.documents)
    embedded = EmbeddedSet(
        name=retrieval_set.name,
        documents=retrieval_set.documents,
        vectors=DocumentVectors(documents),
        splits=judged_splits(asked.retrieval_set, given.vectors_of(order)),
        # Without texts it is equal vectors that are one source.
        text_group=text_groups(retrieval_set.documents) if has_text else vector_groups(documents),
        reports={},
    )
    record, model = fit_model(asked, embedded, given_vectors_identity(documents.shape[1]), config)
    return Fitted(model, record)


def as_set(corpus: RetrievalSet | Corpus, questions: Questions | None) -> RetrievalSet:
    """A retrieval set as it is, or one made of documents and perhaps questions.

    Raises:
        InputError: Both a set and questions, or documents or questions that make none.
    """
    if isinstance(corpus, RetrievalSet):
        if questions is not None:
            remedy = "Give one of the two: a retrieval set holds its own questions."
            raise InputError("a retrieval set and questions beside it.", field="questions", remedy=remedy)
        return corpus
    return retrieval_set_of(corpus, questions)


def unit_vectors(vectors: Vectors, rows: int, what: str) -> Vectors:
    """Vectors [rows, D] as float32 of unit length; they are scaled only if one is not.

    Raises:
        InputError: Another shape, or a row that is not finite or all zeros.
    """
    if vectors.ndim != 2 or len(vectors) != rows:
        problem = f"vectors of shape {list(vectors.shape)} for {rows} {what}."
        raise InputError(problem, field="vectors", remedy=f"Give an array of shape [{rows}, dimensions].")
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        problem = f"{what}: the vector of row {bad[0]} is not finite or all zeros."
        raise InputError(problem, field="vectors", remedy="Leave the row out, or look at what made it.")
    single = np.ascontiguousarray(vectors, dtype=np.float32)
    return single if np.allclose(lengths, 1.0, atol=1e-3) else unit(single)


def _require_distinct(retrieval_set: RetrievalSet) -> None:
    texts = {text_key(document.content, document.id) for document in retrieval_set.documents}
    if len(texts) < 2:
        problem = f"the {len(retrieval_set.documents):,} documents of {retrieval_set.name} all have the same text."
        raise InputError(problem, field="text", remedy="Give at least two documents that differ.")


def _announce(questions: TrainingQuestions) -> None:
    asked = questions.retrieval_set
    counts = ", ".join(f"{len(qrels):,} {split} questions" for split, qrels in asked.qrels.items())
    _LOG.info("%s: %s documents, %s", asked.name, f"{len(asked.documents):,}", counts)
    for note in questions.notes:
        _LOG.info("%s", note)
