"""Jasper: documents and questions in, measurably better retrieval out; the whole flow as one object."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from jasper_rag.atomic_moves import recover
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, as_encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.encoder_choice import checked_encoder, require_known, usable_encoder
from jasper_rag.evaluation.comparison import Comparison
from jasper_rag.explain.search_explanation import SearchExplanation
from jasper_rag.fitting.fit_sources import as_set, fit_given_vectors, fit_texts, unit_vectors
from jasper_rag.fitting.living_corpus import with_documents, with_texts, without_documents
from jasper_rag.fitting.model_fitting import FitRecord as FitRecord
from jasper_rag.fitting.model_fitting import answered_split, compare_model, lexical_index
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.topics import OFFERED
from jasper_rag.serving.model_explanation import explain_texts
from jasper_rag.serving.model_search import Ranker as Ranker
from jasper_rag.serving.model_search import SearchHit as SearchHit
from jasper_rag.serving.model_search import require_some, require_words, unit_questions
from jasper_rag.serving.saved_model import MODEL_FOLDER as MODEL_FOLDER
from jasper_rag.serving.saved_model import SavedModel, model_folder, read_model, write_model
from jasper_rag.serving.steering_choice import Steering, asked_questions, found_hits, require_steerable
from jasper_rag.serving.topic_choice import Topic, listed_topics, offered_topics
from jasper_rag.text.in_memory import Corpus, Questions
from jasper_rag.text.records import Document, RetrievalSet


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

    def transform(
        self, query_vectors: Vectors, *, gated: bool = True, steer: Steering | None = None, strength: float = 1.0
    ) -> Vectors:
        """Question vectors to search vectors: float32 [Q, D] in, float32 [Q, D] unit rows out.

        Args:
            query_vectors: From the same encoder as the documents; scaled to unit length where they are not.
            gated: False leaves both gates out: every question moves by the whole blend.
            steer: As `search`: the steered prediction itself comes back, neither blended nor gated.
            strength: As `search`.

        Raises:
            InputError: Another width than the documents', or a place that cannot be steered to.
        """
        places = require_steerable(self.model, steer, strength)
        questions = unit_questions(self.model, query_vectors)
        return asked_questions(self.model, questions, lambda: self.encoder, places, strength, gated=gated)

    def search(
        self,
        question: str,
        k: int = 10,
        ranker: Ranker = "hybrid",
        *,
        steer: Steering | None = None,
        strength: float = 1.0,
    ) -> list[SearchHit]:
        """The k best documents for one question, best first.

        Steered to a topic, its documents are preferred; steered elsewhere, the search follows the prediction itself,
        past blend and gates. BM25 stands beside both by the same weight.

        Args:
            question: In words.
            k: Most documents.
            ranker: See `Ranker`.
            steer: "topic:NAME" (its beginning will do) or "#NUMBER" of `topics`, "keywords:ONE, TWO", "document:ID",
                "text:WORDS" of one's own, "text:about X, not Y"; or several of these, whose mean is followed.
            strength: Of the steering, 0 to 4. 0 is the search without `steer`, guard included.

        Raises:
            InputError: The question is empty, k is not positive, or the place cannot be steered to.
        """
        return self.search_many([question], k, ranker, steer=steer, strength=strength)[0]

    def search_many(
        self,
        questions: Sequence[str],
        k: int = 10,
        ranker: Ranker = "hybrid",
        *,
        steer: Steering | None = None,
        strength: float = 1.0,
    ) -> list[list[SearchHit]]:
        """`search` of several questions at once, all of them steered to one place."""
        require_some(k)
        require_words(questions)
        if not questions:
            return []
        require_steerable(self.model, steer, strength)
        vectors = self.encoder.encode(list(questions), "query")
        return self.search_vectors(vectors, k, ranker, texts=questions, steer=steer, strength=strength)

    def search_vectors(
        self,
        query_vectors: Vectors,
        k: int = 10,
        ranker: Ranker | None = None,
        *,
        texts: Sequence[str] | None = None,
        steer: Steering | None = None,
        strength: float = 1.0,
    ) -> list[list[SearchHit]]:
        """The k best documents for each question vector.

        Args:
            query_vectors: float32 [Q, D], from the encoder of the documents.
            k: Documents per question.
            ranker: None takes "hybrid" where texts are given and the documents have text, else "dense".
            texts: The Q questions; BM25 needs them.
            steer: As `search`; words need the encoder.
            strength: As `search`.

        Raises:
            InputError: Another width than the documents', k below 1, a hybrid search without texts, or no such place.
        """
        return found_hits(self.model, query_vectors, k, ranker, texts, lambda: self.encoder, steer, strength)

    def explain(
        self,
        question: str,
        k: int = 10,
        ranker: Ranker = "hybrid",
        *,
        steer: Steering | None = None,
        strength: float = 1.0,
    ) -> SearchExplanation:
        """Why `search` returns what it returns, each score part by part; arguments and errors as `search`."""
        return explain_texts(self.model, [question], lambda: self.encoder, k, ranker, steer, strength)[0]

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
        self.model = with_texts(self.model, documents, lambda: self.encoder, store or EmbeddingStore())

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
        recover(Path(directory))
        jasper = cls(read_model(model_folder(directory)), None, offline=offline)
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
            found = usable_encoder(None, config, offline=self._offline, saved=self.model.identity)
            self._encoder = checked_encoder(found, self.model.identity)
        return self._encoder
