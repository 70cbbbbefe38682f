"""Topics of a fitted model, and the predictor that follows them; without a topic it is the one it was."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from jasper_rag.build.document_topics import document_topics
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topics import Topics
from jasper_rag.training.candidates import Candidates
from jasper_rag.training.guidance import TrainedGuidance, train_guidance
from jasper_rag.training.training_pairs import pair_documents, training_pairs

_LOG = logging.getLogger(__name__)

FEWEST_PAIRS = 20
"""Train pairs below which nothing is learnt about topics."""


@dataclass(frozen=True, slots=True)
class FittedTopics:
    """What a fit found.

    Args:
        model: The predictor, steered by topics where dev gained by it.
        topics: None where there are none.
        source: Where the topics come from, or why there are none.
        guidance: Of the training; None without topics.
    """

    model: Predictor
    topics: Topics | None
    source: str
    guidance: TrainedGuidance | None = None

    def summary(self) -> str:
        """One line for people."""
        if self.topics is None or self.guidance is None:
            return f"none: {self.source}"
        found = self.guidance
        gain = f"dev nDCG@10 {found.dev_ndcg_zero:.3f} without, {found.dev_ndcg_guided:.3f} with the right topic"
        learnt = gain if found.steers else "steering by them does not help on dev and is off"
        # Where the predictor learnt to follow topics while it was trained, that took no time of its own.
        took = f"; {found.cpu_seconds:.1f} CPU-seconds" if found.cpu_seconds else ""
        return f"{len(self.topics)} ({self.source}); {learnt}{took}"


def fit_topics(embedded: EmbeddedSet, candidates: Candidates, config: JasperConfig) -> FittedTopics:
    """Group the documents and train the predictor to follow a topic.

    Args:
        embedded: Its train split trains, whoever asked its questions.
        candidates: The trained predictor, and the questions that decide.
        config: Every setting.
    """
    trained = candidates.trained.model
    fitted = _off(trained, "switched off")
    if config.topics.use:
        fitted = _fitted(embedded, candidates, config)
    _LOG.info("topics: %s", fitted.summary())
    return fitted


def _fitted(embedded: EmbeddedSet, candidates: Candidates, config: JasperConfig) -> FittedTopics:
    trained = candidates.trained.model
    rows = pair_documents(embedded)
    if len(rows) < FEWEST_PAIRS:
        return _off(trained, f"{len(rows)} train pairs are too few")
    documents, settings = embedded.documents, config.topics
    found = document_topics(documents, embedded.vectors, settings.count, seed=config.seed, language=config.language)
    if found.topics is None:
        return _off(trained, found.source)
    guidance = train_guidance(
        trained,
        training_pairs(embedded),
        found.topics.assignment[rows],
        found.topics,
        candidates.dev,
        embedded.vectors,
        config.training.model_copy(update={"steps": settings.steps}),
        config.seed,
    )
    return FittedTopics(guidance.model, found.topics, found.source, guidance)


def _off(model: Predictor, why: str) -> FittedTopics:
    return FittedTopics(model, None, why)
