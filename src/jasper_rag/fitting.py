"""From vectors and judgements to a model: train the predictor, fit its guard, weigh BM25 in, compare on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.encoder import Encoder, identity_of
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.evaluation.comparison import Comparison, QueryVectors, choose_fusion_weights, compare
from jasper_rag.evaluation.linear_adapter import train_linear_adapter
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.saved_model import SavedModel
from jasper_rag.text.leakage import LeakReport
from jasper_rag.training.guard_fitting import FittedGuard, fit_guard
from jasper_rag.training.predictor_training import TrainedPredictor, predict, train_predictor
from jasper_rag.training.training_pairs import TrainingPairs, training_pairs

TRAINED_SYSTEMS = ("jasper_ungated", "jasper", "rrf_jasper", "hybrid")


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What a fit saw and measured; kept with a `Jasper`, not with a saved model.

    Args:
        embedded: The vectors and judgements of every split.
        leaks: What the splits share.
        trained: The predictor's training.
        guard: The guard's dev curve.
        comparison: All systems on the test split.
        truncated_share: Share of documents longer than the encoder reads; None if the encoder cannot tell.
    """

    embedded: EmbeddedSet
    leaks: LeakReport
    trained: TrainedPredictor
    guard: FittedGuard
    comparison: Comparison
    truncated_share: float | None


def fit_model(
    embedded: EmbeddedSet, leaks: LeakReport, encoder: Encoder, config: JasperConfig
) -> tuple[FitRecord, SavedModel]:
    """Train on the train split, decide on dev, compare on test.

    Args:
        embedded: With queries in train, dev and test.
        leaks: For the record.
        encoder: Of the vectors.
        config: Every setting.
    """
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
    comparison = _compare_on_test(embedded, model, pairs, trained.cpu_seconds)
    # Only an encoder that cuts its texts can tell how many.
    count = getattr(encoder, "truncated_share", None)
    truncated = None if count is None else float(count(texts))
    return FitRecord(embedded, leaks, trained, fitted, comparison, truncated), model


def compare_model(
    embedded: EmbeddedSet,
    split: str,
    model: SavedModel,
    lexical: LexicalIndex,
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
        lexical: BM25 over the documents of `embedded`.
        train_seconds: System key -> CPU seconds.
        train_sources: Document rows that train questions ask for; None where training saw another corpus.
        adapted: float32 [Q, D], the linear adapter's query vectors; None leaves its row out.
    """
    queries = embedded.splits[split]
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
        train_seconds=train_seconds or {},
        train_sources=train_sources,
        seed=int(model.config["seed"]),
    )


def _compare_on_test(
    embedded: EmbeddedSet, model: SavedModel, pairs: TrainingPairs, predictor_seconds: float
) -> Comparison:
    adapter = train_linear_adapter(pairs)
    train = embedded.splits["train"].judgements
    asked_for = embedded.text_group[train.documents[(train.grades > 0) & (train.documents >= 0)]]
    return compare_model(
        embedded,
        "test",
        model,
        model.lexical,
        train_seconds={"linear_adapter": adapter.cpu_seconds, **dict.fromkeys(TRAINED_SYSTEMS, predictor_seconds)},
        # A document with the text of a train source was seen in training, whatever its id.
        train_sources=np.flatnonzero(np.isin(embedded.text_group, asked_for)),
        adapted=adapter.transform(embedded.splits["test"].vectors),
    )
