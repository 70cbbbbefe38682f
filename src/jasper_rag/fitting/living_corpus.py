"""A trained model whose corpus grows and shrinks: vectors and BM25 follow, nothing is trained again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from jasper_rag.build.document_topics import document_directions
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import embed_documents
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.errors import InputError
from jasper_rag.fitting.model_fitting import lexical_index, openness_over
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.topics import Topics
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.records import Document


def require_new(model: SavedModel, documents: Sequence[Document]) -> None:
    """Refuse documents that cannot be added, before any of them is encoded.

    Raises:
        InputError: An id that is empty, doubled or known, or a document without text beside ones that have it.
    """
    known = {document.id for document in model.documents}
    for document in documents:
        if not document.id or document.id in known:
            problem = f"document id {document.id!r} is already in the corpus." if document.id else "an id is empty."
            raise InputError(problem, field="id", remedy="Give it an id of its own, or remove the old one first.")
        if model.lexical is not None and not document.content.strip():
            raise InputError(f"document {document.id!r} is empty.", field="text", remedy="Leave it out.")
        known.add(document.id)


def with_texts(
    model: SavedModel, documents: Sequence[Document], encoder: Callable[[], Encoder], store: EmbeddingStore
) -> SavedModel:
    """`with_documents` for documents that are yet to be embedded; the encoder is asked for when they can be added."""
    require_new(model, documents)
    chunking = JasperConfig.model_validate(model.config).chunking
    return with_documents(model, documents, embed_documents(documents, encoder(), store, chunking)[0])


def with_documents(model: SavedModel, documents: Sequence[Document], vectors: DocumentVectors) -> SavedModel:
    """The model over its documents and these; each new one joins the topic of the nearest centroid.

    Args:
        model: Its predictor, guard and weights stay.
        documents: New ones, see `require_new`.
        vectors: Theirs.

    Raises:
        InputError: Another width than the corpus, or not one vector per document.
    """
    if not documents:
        return model
    require_new(model, documents)
    if len(vectors) != len(documents) or vectors.dimension != model.vectors.dimension:
        problem = f"{len(vectors)} vectors of {vectors.dimension} dimensions for {len(documents)} documents."
        remedy = f"Give one vector of {model.vectors.dimension} dimensions per document."
        raise InputError(problem, field="vectors", remedy=remedy)
    if model.vectors.passages is not None and vectors.passages is None:
        vectors = vectors.as_passages([len(document.text) for document in documents])
    together = (*model.documents, *documents)
    topics = None if model.topics is None else model.topics.followed_by(document_directions(vectors))
    return _over(model, together, model.vectors.followed_by(vectors), topics)


def without_documents(model: SavedModel, ids: Collection[str]) -> SavedModel:
    """The model over its documents but these.

    Raises:
        InputError: An id that is not in the corpus, or nothing would be left.
    """
    if isinstance(ids, str):  # a collection too, of other ids
        raise InputError(f"one text ({ids!r}) instead of ids.", field="id", remedy=f"Give a list: [{ids!r}].")
    gone = frozenset(ids)
    unknown = sorted(gone - {document.id for document in model.documents})
    if unknown:
        problem = f"{len(unknown)} ids are not in the corpus, the first is {unknown[0]!r}."
        raise InputError(problem, field="id", remedy="Give ids of documents that are in it.")
    kept = np.array([row for row, document in enumerate(model.documents) if document.id not in gone], dtype=np.int64)
    if not len(kept):
        raise InputError("no document would be left.", field="id", remedy="Keep at least one.")
    topics = None if model.topics is None else model.topics.select(kept)
    pairs = None if model.known_pairs is None else model.known_pairs.without(gone)
    left = replace(model, known_pairs=pairs)
    return _over(left, tuple(model.documents[row] for row in kept), model.vectors.select(kept), topics)


def _over(
    model: SavedModel, documents: tuple[Document, ...], vectors: DocumentVectors, topics: Topics | None
) -> SavedModel:
    # BM25 weighs a word by how many documents have it, so every document's impacts change: it is built anew.
    lexical = None if model.lexical is None else lexical_index(documents, str(model.config["language"]))
    openness = openness_over(model.corpus_gate, vectors)
    return replace(model, documents=documents, vectors=vectors, lexical=lexical, openness=openness, topics=topics)
