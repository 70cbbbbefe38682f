"""From vectors and judgements to a model: train the predictor, fit its guard, weigh BM25 in, compare on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.evaluation.comparison import Comparison, FusionWeights, QueryVectors, choose_fusion_weights, compare
from jasper_rag.evaluation.linear_adapter import train_linear_adapter
from jasper_rag.evaluation.steering_modes import SteeringModes
from jasper_rag.fitting.routing_fitting import fit_routing, steering_on
from jasper_rag.fitting.topic_fitting import FittedTopics, fit_topics
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.corpus_gate import CorpusGate
from jasper_rag.models.guard import Guard
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.serving.saved_pairs import known_pairs_of
from jasper_rag.text.leakage import LeakReport, leak_report
from jasper_rag.text.records import Document, Qrels, RetrievalSet
from jasper_rag.text.training_questions import TrainingQuestions, labelled_only
from jasper_rag.training.candidates import Candidates, train_candidates
from jasper_rag.training.guard_fitting import FittedGuard, fit_corpus_gate, fit_guard
from jasper_rag.training.predictor_training import predict
from jasper_rag.training.training_pairs import training_pairs

NO_TEST = "There is no test split: these dev questions chose model, guard and weights, so expect less of new ones."
"""What the verdict adds where the comparison is on dev."""

TRAINED_SYSTEMS = ("jasper_ungated", "jasper", "rrf_jasper", "hybrid")

USUAL_WEIGHT, USUAL_COUNTS = 0.2, 20
"""BM25's weight where no real question can choose it, and how many real ones it counts as (docs/lab_log.md)."""


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What a fit saw and measured; kept with a `Jasper`, not with a saved model.

    Args:
        questions: Where the questions of each split come from.
        embedded: The vectors and judgements of every split.
        leaks: What the splits share.
        candidates: What was trained, and what dev picked.
        guard: The guard's dev curve.
        comparison: All systems on the test split; on dev where there is none.
        truncated_share: Share of documents longer than the encoder reads; None if the encoder cannot tell.
        topics: The documents' topics, and what following them gained on dev.
        steering: The same split by mode of steering; None without topics.
    """

    questions: TrainingQuestions
    embedded: EmbeddedSet
    leaks: LeakReport
    candidates: Candidates
    guard: FittedGuard
    comparison: Comparison
    truncated_share: float | None
    topics: FittedTopics
    steering: SteeringModes | None

    def to_metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`: the comparison, modes of steering, and what the model was trained on."""
        metrics = self.comparison.to_metrics()
        metrics["steering_modes"] = None if self.steering is None else self.steering.to_metrics()
        metrics["trained_on"] = {
            "kind": self.questions.kind,
            "labelled_pairs": self.questions.labelled_pairs,
            "pseudo_questions": sum(query.id.startswith("pseudo:") for query in self.questions.retrieval_set.queries),
            "real_test_questions": self.questions.real_test,
            "chosen": self.candidates.chosen,
            "dev_ndcg@10": dict(self.candidates.dev_ndcg),
        }
        if self.questions.kind == "pseudo":
            metrics["verdict"] = f"{metrics['verdict']} {self.questions.notes[-1]}"
        if self.comparison.split != "test":
            metrics["verdict"] = f"{metrics['verdict']} {NO_TEST}"
        return metrics


def fit_model(
    questions: TrainingQuestions,
    embedded: EmbeddedSet,
    identity: EncoderIdentity,
    config: JasperConfig,
    truncated_share: float | None = None,
) -> tuple[FitRecord, SavedModel]:
    """Train on the train split, decide on dev, compare on test.

    Args:
        questions: Where the questions come from.
        embedded: Their vectors, in train, dev and test.
        identity: Of the encoder of the vectors.
        config: Every setting.
        truncated_share: For the record.
    """
    pseudo_only = questions.kind == "pseudo"
    candidates = train_candidates(embedded, config.training, config.seed, pseudo_only=pseudo_only)
    topics = fit_topics(embedded, candidates, config)
    return finish_model(questions, embedded, identity, config, candidates, topics, truncated_share)


def finish_model(
    questions: TrainingQuestions,
    embedded: EmbeddedSet,
    identity: EncoderIdentity,
    config: JasperConfig,
    candidates: Candidates,
    topics: FittedTopics,
    truncated_share: float | None = None,
) -> tuple[FitRecord, SavedModel]:
    """Guard a trained predictor, weigh BM25 in, and compare on test, or on dev where there is no test split.

    Args:
        questions: Where the questions come from.
        embedded: Their vectors, in train and dev, and test if there is one.
        identity: Of the encoder of the vectors.
        config: Every setting.
        candidates: The trained predictor, and the questions that decide.
        topics: Of the documents, and the predictor that ships.
        truncated_share: For the record.
    """
    documents = embedded.vectors
    lexical = lexical_index(embedded.documents, config.language)
    dev, asked, labelled = candidates.dev, candidates.questions.vectors, candidates.labelled
    predictions = predict(candidates.trained.model, dev.vectors)
    fitted = fit_guard(asked, dev, predictions, documents, config.guard, config.seed, labelled=labelled)
    weights = _fusion_weights(embedded, candidates, fitted.guard, lexical, real_dev=questions.real_dev)
    corpus_gate = fit_corpus_gate(embedded, candidates.questions, config.guard, config.seed)
    retriever = HybridRetriever(documents, lexical, weights.jasper)
    routing = fit_routing(embedded, candidates, fitted.guard, retriever, topics, config.seed)
    model = SavedModel(
        config=config.model_dump(),
        identity=identity,
        documents=embedded.documents,
        vectors=documents,
        lexical=lexical,
        predictor=topics.model,
        guard=fitted.guard,
        weights=weights,
        corpus_gate=corpus_gate,
        openness=openness_over(corpus_gate, documents),
        name=embedded.name,
        topics=topics.topics,
        routing=routing,
        known_pairs=known_pairs_of(embedded, config.explain, config.seed),
    )
    split = "test" if "test" in embedded.splits else "dev"
    comparison = _compare_on(split, embedded, model, candidates)
    steering = steering_on(split, embedded, model)
    leaks = leak_report(labelled_only(questions))
    record = FitRecord(
        questions, embedded, leaks, candidates, fitted, comparison, truncated_share, topics=topics, steering=steering
    )
    return record, model


def _fusion_weights(
    embedded: EmbeddedSet, candidates: Candidates, guard: Guard, lexical: LexicalIndex | None, *, real_dev: int
) -> FusionWeights:
    """BM25's weights by real dev questions, drawn towards `USUAL_WEIGHT` the fewer there are; it alone without any.

    Pseudo-questions have no say: they quote their documents, so BM25 finds nearly all of them.
    """
    if lexical is None:
        return FusionWeights(0.0, 0.0)
    if not real_dev:
        return FusionWeights(USUAL_WEIGHT, USUAL_WEIGHT)
    dev = embedded.splits["dev"]
    shipped = guard.blend(dev.vectors, predict(candidates.trained.model, dev.vectors))
    chosen = choose_fusion_weights(dev, QueryVectors(dev.vectors, shipped, shipped), embedded.vectors, lexical)

    def drawn(weight: float) -> float:
        return round((len(dev) * weight + USUAL_COUNTS * USUAL_WEIGHT) / (len(dev) + USUAL_COUNTS), 3)

    return FusionWeights(drawn(chosen.plain), drawn(chosen.jasper))


def lexical_index(documents: Sequence[Document], language: str) -> LexicalIndex | None:
    """BM25 over title and text of the documents; None where none has either."""
    texts = [document.content for document in documents]
    return LexicalIndex.build(texts, language) if any(text.strip() for text in texts) else None


def compare_model(
    embedded: EmbeddedSet,
    split: str,
    model: SavedModel,
    lexical: LexicalIndex | None,
    *,
    train_seconds: Mapping[str, float] | None = None,
    train_sources: NDArray[np.int64] | None = None,
    adapted: Vectors | None = None,
) -> Comparison:
    """Search for the queries of one split with `model` and with everything it is compared with.

    Args:
        embedded: Any set embedded by the model's encoder.
        split: One of its splits.
        model: Its predictor, guard and weights are used, not its documents.
        lexical: BM25 over the documents of `embedded`; None where they have no text.
        train_seconds: System key -> CPU seconds.
        train_sources: Document rows that train questions ask for; None where training saw another corpus.
        adapted: float32 [Q, D], the linear adapter's query vectors; None leaves its row out.
    """
    queries = embedded.splits[split]
    predictions = predict(model.predictor, queries.vectors)
    openness = openness_over(model.corpus_gate, embedded.vectors)
    vectors = QueryVectors(
        plain=np.ascontiguousarray(queries.vectors),
        ungated=model.guard.blend(queries.vectors, predictions, gated=False),
        shipped=model.guard.over(openness).blend(queries.vectors, predictions),
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
        weights=model.weights.over(openness),
        alpha=model.guard.alpha,
        openness=openness,
        train_seconds=train_seconds or {},
        train_sources=train_sources,
        seed=int(model.config["seed"]),
    )


def openness_over(gate: CorpusGate | None, documents: DocumentVectors) -> float:
    """How open the guard is over these documents, in [0, 1]."""
    return 1.0 if gate is None else gate.openness(documents.vectors)


def answered_split(retrieval_set: RetrievalSet, split: str) -> Qrels:
    """The judgements of one split that can be compared on.

    Raises:
        InputError: There is no such split, or it has no question with a relevant document.
    """
    found = ", ".join(sorted(retrieval_set.qrels))
    if split not in retrieval_set.qrels:
        remedy = f"Choose one of these: {found}." if found else "Add judged questions, such as qrels/test.tsv."
        raise InputError(f"{retrieval_set.name} has no split {split!r}.", field="split", remedy=remedy)
    qrels = retrieval_set.qrels[split]
    if not any(grade > 0 for grades in qrels.values() for grade in grades.values()):
        problem = f"no question of {retrieval_set.name}, split {split!r}, has a relevant document."
        raise InputError(problem, field="split", remedy="Add judgements above 0, or name the splits yourself.")
    return qrels


def _compare_on(split: str, embedded: EmbeddedSet, model: SavedModel, candidates: Candidates) -> Comparison:
    adapter = train_linear_adapter(training_pairs(embedded))
    train = embedded.splits["train"].judgements
    asked_for = embedded.text_group[train.documents[(train.grades > 0) & (train.documents >= 0)]]
    return compare_model(
        embedded,
        split,
        model,
        model.lexical,
        train_seconds={"linear_adapter": adapter.cpu_seconds, **dict.fromkeys(TRAINED_SYSTEMS, candidates.cpu_seconds)},
        # A document with the text of a train source was seen in training, whatever its id. Pseudo-questions tell
        # nothing of what will be asked of theirs.
        train_sources=np.flatnonzero(np.isin(embedded.text_group, asked_for)) if candidates.labelled else None,
        adapted=adapter.transform(embedded.splits[split].vectors),
    )
