"""Jasper: documents and questions in, measurably better retrieval out; the whole flow as one object."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from jasper_rag.atomic_moves import recover
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import embed_documents, embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, as_encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.encoder_choice import checked_encoder, require_known, usable_encoder
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.fit_sources import as_set, fit_given_vectors, fit_texts, unit_vectors
from jasper_rag.fitting import FitRecord as FitRecord
from jasper_rag.fitting import answered_split, compare_model, lexical_index
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.living_corpus import require_new, with_documents, without_documents
from jasper_rag.model_search import Ranker as Ranker
from jasper_rag.model_search import SearchHit as SearchHit
from jasper_rag.model_search import moved_questions, ranked_hits, require_some, require_words, unit_questions
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import OFFERED
from jasper_rag.saved_model import SavedModel, read_model, write_model
from jasper_rag.text.in_memory import Corpus, Questions
from jasper_rag.text.records import Document, RetrievalSet
from jasper_rag.topic_choice import Topic, listed_topics, offered_topics, require_steerable, steered_questions

MODEL_FOLDER = "model"


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
        fitted = fit_texts(as_set(corpus, questions), encoder, config, store or EmbeddingStore(), offline=offline)
        return cls(fitted.model, fitted.encoder, fitted.record, offline=offline)

    @classmethod
    def fit_vectors(
        cls,
        retrieval_set: RetrievalSet,
        document_vectors: Vectors,
        query_vectors: Vectors,
        *,
        config: JasperConfig | None = None,
    ) -> Jasper:
        """`fit` on vectors of one's own: no encoder, and no text, is needed.

        Args:
            retrieval_set: Ids and judgements; with texts, BM25 and the report can use them.
            document_vectors: float32 [N, D], a row per document of the set; scaled to unit length where they are not.
            query_vectors: float32 [Q, D], a row per query of the set.
            config: Every other setting.

        Raises:
            InputError: Vectors that do not fit the set, unusable splits, or too few judgements.
        """
        fitted = fit_given_vectors(retrieval_set, document_vectors, query_vectors, config or JasperConfig())
        return cls(fitted.model, None, fitted.record)

    def transform(self, query_vectors: Vectors, *, gated: bool = True, steer: str | None = None) -> Vectors:
        """Question vectors to search vectors: float32 [Q, D] in, float32 [Q, D] unit rows out.

        Args:
            query_vectors: From the same encoder as the documents; scaled to unit length where they are not.
            gated: False leaves both gates out: every question moves by the whole blend.
            steer: As `search`: the steered prediction itself comes back, neither blended nor gated.

        Raises:
            InputError: Another width than the documents', or a topic that is not there.
        """
        questions = unit_questions(self.model, query_vectors)
        if steer is None:
            return moved_questions(self.model, questions, gated=gated)
        return steered_questions(self.model, questions, steer, lambda: self.encoder)

    def search(
        self, question: str, k: int = 10, ranker: Ranker = "hybrid", *, steer: str | None = None
    ) -> list[SearchHit]:
        """The k best documents for one question, best first.

        A steered search uses the steered prediction as it is: neither the blend nor the gates hold it back, since
        somebody asked for the topic. BM25 stands beside it by the model's weight, as always.

        Args:
            question: In words.
            k: Most documents.
            ranker: See `Ranker`.
            steer: "topic:NAME" (its beginning will do) or "#NUMBER" of `topics`, or "text:WORDS" of one's own.

        Raises:
            InputError: The question is empty, k is not positive, or the topic is not there.
        """
        return self.search_many([question], k, ranker, steer=steer)[0]

    def search_many(
        self, questions: Sequence[str], k: int = 10, ranker: Ranker = "hybrid", *, steer: str | None = None
    ) -> list[list[SearchHit]]:
        """`search` of several questions at once, all of them steered to one place."""
        require_some(k)
        require_words(questions)
        if not questions:
            return []
        if steer is not None:
            require_steerable(self.model, steer)
        vectors = self.encoder.encode(list(questions), "query")
        return self.search_vectors(vectors, k, ranker, texts=questions, steer=steer)

    def search_vectors(
        self,
        query_vectors: Vectors,
        k: int = 10,
        ranker: Ranker | None = None,
        *,
        texts: Sequence[str] | None = None,
        steer: str | None = None,
    ) -> list[list[SearchHit]]:
        """The k best documents for each question vector.

        Args:
            query_vectors: float32 [Q, D], from the encoder of the documents.
            k: Documents per question.
            ranker: None takes "hybrid" where texts are given and the documents have text, else "dense".
            texts: The Q questions; BM25 needs them.
            steer: As `search`; words need the encoder.

        Raises:
            InputError: Another width than the documents', k below 1, a hybrid search without texts, or no such topic.
        """
        require_some(k)
        possible = texts is not None and self.model.lexical is not None
        if ranker == "hybrid" and texts is None:
            remedy = 'Give the questions as texts=..., or search with ranker="dense".'
            raise InputError("a hybrid search needs the questions' words.", field="texts", remedy=remedy)
        if ranker == "plain" and steer is not None:
            remedy = "Leave one of them out: the plain encoder knows no topics."
            raise InputError("a plain search cannot be steered.", field="steer", remedy=remedy)
        if ranker is None or not possible:
            ranker = ranker if ranker == "plain" else "hybrid" if possible else "dense"
        moved = self.transform(query_vectors, steer=steer)
        asked = unit(query_vectors) if ranker == "plain" else moved
        return ranked_hits(self.model, asked, k, ranker, texts)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What a search can be steered to; empty for a model without topics."""
        return listed_topics(self.model)

    def offered_topics(self, question: str, most: int = OFFERED) -> list[tuple[Topic, float]]:
        """The topics in which the answer to a question most likely is, with their weights; all weights sum to 1.

        Raises:
            InputError: The question is empty, or the model has no topics.
        """
        require_words([question])
        vectors = unit_questions(self.model, self.encoder.encode([question], "query"))
        return offered_topics(self.model, vectors, most)[0]

    def add(self, documents: Sequence[Document], *, store: EmbeddingStore | None = None) -> None:
        """Put documents into the corpus; nothing is trained again. `save` keeps them.

        Raises:
            InputError: An id that is known already, an empty text, or an encoder that cannot be had.
        """
        require_new(self.model, documents)
        chunking = JasperConfig.model_validate(self.model.config).chunking
        vectors, _ = embed_documents(documents, self.encoder, store or EmbeddingStore(), chunking)
        self.model = with_documents(self.model, documents, vectors)

    def add_vectors(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """`add` for vectors of one's own, float32 [n, D], of unit length or scaled to it.

        Raises:
            InputError: As `add`, or vectors that do not fit.
        """
        checked = DocumentVectors(unit_vectors(vectors, len(documents), "documents"))
        self.model = with_documents(self.model, documents, checked)

    def remove(self, ids: Collection[str]) -> None:
        """Take documents out of the corpus; nothing is trained again. `save` keeps it so.

        Raises:
            InputError: An id that is not in the corpus, or none would be left.
        """
        self.model = without_documents(self.model, ids)

    def evaluate(
        self, retrieval_set: RetrievalSet, split: str = "test", *, store: EmbeddingStore | None = None
    ) -> Comparison:
        """Compare the trained search with the plain encoder and BM25 on any set, in its own corpus.

        Raises:
            InputError: The set has no such split, or the split no question with a relevant document.
        """
        only = replace(retrieval_set, qrels={split: answered_split(retrieval_set, split)})
        chunking = JasperConfig.model_validate(self.model.config).chunking
        embedded = embed_set(only, self.encoder, store or EmbeddingStore(), chunking)
        lexical = lexical_index(embedded.documents, self.model.config["language"])
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
        recover(folder)
        if (folder / MODEL_FOLDER).is_dir():
            folder = folder / MODEL_FOLDER
        jasper = cls(read_model(folder), None, offline=offline)
        if encoder is not None:
            jasper._encoder = checked_encoder(as_encoder(encoder), jasper.model.identity)
        return jasper

    @property
    def encoder(self) -> Encoder:
        """The encoder of the model's vectors, loaded when first needed.

        Raises:
            InputError: It cannot be had, or it is not the one the vectors were made with.
        """
        if self._encoder is None:
            require_known(self.model.identity)
            config = JasperConfig.model_validate(self.model.config)
            self._encoder = checked_encoder(usable_encoder(None, config, offline=self._offline), self.model.identity)
        return self._encoder


def model_folder(directory: str | Path) -> Path:
    """The model folder of a run directory, or the folder itself."""
    inside = Path(directory) / MODEL_FOLDER
    return inside if inside.is_dir() else Path(directory)
