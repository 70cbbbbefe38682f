"""From a predictor trained on a steering dataset to a model that can be searched: guarded and compared as a fit's."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from jasper_rag import dataset_layout as layout
from jasper_rag.data.dataset_texts import DatasetTexts, read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.data.steering_tensors import SteeringTensors
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet, text_groups
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.explain.source_topics import source_topics
from jasper_rag.fitting.model_fitting import FitRecord, finish_model
from jasper_rag.fitting.topic_fitting import FittedTopics
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.models.guard import unit
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topics import Topics
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet
from jasper_rag.text.training_questions import TrainingQuestions, pairs_of
from jasper_rag.text.words import WordAnalyser
from jasper_rag.training.candidates import Candidates
from jasper_rag.training.guidance import GuidedRetrieval, TrainedGuidance
from jasper_rag.training.predictor_training import TrainedPredictor, predict
from jasper_rag.training.retrieval_validation import DEPTH, split_judgements
from jasper_rag.training.training_run import TrainingRun
from jasper_rag.training.validation import predict as predict_tensors

TRAINED = "trained on the dataset"

_SETTLED = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """What a model needs of a dataset beside its tensors.

    Args:
        name: Of the set.
        texts: Of documents, questions and clusters.
        identity: Of the encoder of the vectors.
        config: Settings of the model: defaults, with the seed of the training, and encoder and language of the dataset.
    """

    name: str
    texts: DatasetTexts
    identity: EncoderIdentity
    config: JasperConfig


def why_no_model(run: TrainingRun) -> str | None:
    """Why nothing searchable can be made of a run, as a clause; None where it can."""
    opened = run.datasets[run.config.dataset.split_train].tensors
    if run.config.ema.target == "ema":
        return (
            "ema.target is ema: its sources are searched through an encoder of their own, which a model does not hold"
        )
    missing = [name for name in layout.TEXT_FILES if not (opened.root / name).is_file()]
    if missing:
        return f"{opened.root} holds no texts ({', '.join(missing)})"
    identity = _identity(opened)
    if isinstance(identity, str):
        return identity
    # Val has a relevant pair, or there would be no run.
    train = run.config.dataset.split_train
    return None if len(split_judgements(run.datasets[train])[0]) else f"no pair of the {train} split is relevant"


def read_source(run: TrainingRun) -> DatasetSource:
    """Read what a model needs of the run's dataset; best before the training, which takes longer.

    Raises:
        InputError: There is none (`why_no_model`), or the texts or settings of the dataset are damaged.
    """
    opened = run.datasets[run.config.dataset.split_train].tensors
    identity = _identity(opened)
    if isinstance(identity, str):
        raise InputError(f"{identity}.", path=opened.root, remedy="Build the dataset with `jasper build`.")
    build = opened.settings.get("build")
    language = build.get("language") if isinstance(build, dict) else None
    overrides = {
        "seed": run.config.training.seed,
        "language": language,
        "encoder.name": identity.name,
        "encoder.max_seq_length": identity.max_seq_length,
        "encoder.query_prompt": identity.query_prompt,
        "encoder.document_prompt": identity.document_prompt,
        "encoder.dtype": identity.dtype if identity.dtype in _SETTLED else None,
    }
    config = load_config(overrides=overrides)
    WordAnalyser.of(config.language)
    name = opened.settings.get("name")
    shown = name if isinstance(name, str) and name else opened.root.resolve().name
    return DatasetSource(shown, read_texts(opened.root), identity, config)


def fit_dataset(run: TrainingRun, source: DatasetSource, cpu_seconds: float = 0.0) -> tuple[FitRecord, SavedModel]:
    """Guard the predictor of a run by the val split, weigh BM25 in, and compare on test (val, where there is none).

    Args:
        run: With the weights to be shipped loaded, as `run.trainer.load_best()` does.
        source: From `read_source`.
        cpu_seconds: Of the training, for the record.

    Raises:
        ValueError: `why_no_model` has a reason.
    """
    why = why_no_model(run)
    if why is not None:
        raise ValueError(why)
    names = {"train": run.config.dataset.split_train, "dev": run.config.dataset.split_val}
    if "test" in run.datasets and "test" not in names.values():
        names["test"] = "test"
    opened = run.datasets[names["train"]].tensors
    splits = {split: _queries(run.datasets[name], source.texts.questions) for split, name in names.items()}
    documents = source.texts.documents
    embedded = EmbeddedSet(
        name=source.name,
        documents=documents,
        vectors=DocumentVectors(_unit_rows(_array(opened, "source_embs"))),
        splits={split: queries for split, queries in splits.items() if len(queries)},
        text_group=text_groups(documents),
        reports={},
    )
    candidates = _candidates(run, embedded, cpu_seconds)
    topics = _topics(opened, source.texts, embedded, candidates)
    return finish_model(_questions(source, embedded), embedded, source.identity, source.config, candidates, topics)


def _identity(opened: SteeringTensors) -> EncoderIdentity | str:
    """The encoder of a dataset, or why it is not known."""
    place = f"{opened.root / layout.CONFIG_FILE}"
    given = opened.settings.get(layout.ENCODER_KEY)
    if not isinstance(given, dict) or not given.get("name"):
        return f"{place} names no encoder that could embed a question"
    try:
        identity = EncoderIdentity.from_json(given)
    except InputError as error:
        return f"{place}: {error.problem.rstrip('.')}"
    if identity.dimension != opened.config.embedding_dim:
        return f"{place} names an encoder of {identity.dimension} dimensions, its vectors have another width"
    return identity


def _queries(dataset: JASPERSteeringDataset, questions: tuple[Query, ...]) -> EmbeddedQueries:
    asked, judgements = split_judgements(dataset)
    vectors = _unit_rows(_array(dataset.tensors, "question_embs")[asked])
    chosen = [questions[row] for row in asked.tolist()]
    ids, texts = tuple(query.id for query in chosen), tuple(query.text for query in chosen)
    return EmbeddedQueries(ids, texts, vectors, judgements)


def _array(opened: SteeringTensors, name: str) -> Vectors:
    array: Vectors = opened.tensors[name].cpu().numpy()
    return array


def _unit_rows(vectors: Vectors) -> Vectors:
    """Rows as a model compares them, float32 [n, D]; scaled only if one is not of unit length."""
    rows: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return rows if np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3) else unit(rows)


def _candidates(run: TrainingRun, embedded: EmbeddedSet, cpu_seconds: float) -> Candidates:
    trained, dev = run.trainer.model, embedded.splits["dev"]
    assert isinstance(trained, Predictor)
    # A copy on the CPU, where models are searched: the run keeps its own.
    model = copy.deepcopy(trained).cpu().eval()
    ranked = embedded.vectors.top_k(predict(model, dev.vectors), DEPTH)[1]
    value = float(ndcg(ranked, dev.judgements, DEPTH).mean())
    history = tuple(dict(row) for row in run.trainer.history)
    predictor = TrainedPredictor(model, history, value, cpu_seconds)
    train = embedded.splits["train"]
    return Candidates(TRAINED, predictor, train, len(train), dev, {TRAINED: value}, cpu_seconds)


def _topics(
    opened: SteeringTensors, texts: DatasetTexts, embedded: EmbeddedSet, candidates: Candidates
) -> FittedTopics:
    """The dataset's clusters; the predictor has learnt to follow them with everything else."""
    trained = candidates.trained
    topics = Topics(
        names=texts.clusters,
        terms=texts.terms,
        centroids=_unit_rows(_array(opened, "centroid_embs")),
        assignment=np.ascontiguousarray(source_topics(opened), dtype=np.int64),
    )
    retrieval = GuidedRetrieval(candidates.dev, embedded.vectors, topics)
    guided = retrieval(lambda questions, steering: predict_tensors(trained.model, questions, steering).detach())
    guidance = TrainedGuidance(trained.model, trained.best_ndcg, guided[f"ndcg@{DEPTH}"], 0.0)
    return FittedTopics(trained.model, topics, "the dataset's clusters", guidance)


def _questions(source: DatasetSource, embedded: EmbeddedSet) -> TrainingQuestions:
    qrels = {split: _qrels(queries, embedded.documents) for split, queries in embedded.splits.items()}
    asked = RetrievalSet(source.name, embedded.documents, source.texts.questions, qrels)
    counts = {split: len(queries) for split, queries in embedded.splits.items()}
    return TrainingQuestions(
        asked, "labelled", pairs_of(qrels["train"]), real_test=counts.get("test", 0), real_dev=counts["dev"]
    )


def _qrels(queries: EmbeddedQueries, documents: tuple[Document, ...]) -> Qrels:
    judgements: Judgements = queries.judgements
    found: dict[str, dict[str, int]] = {}
    for place, query in enumerate(queries.ids):
        entries = slice(judgements.indptr[place], judgements.indptr[place + 1])
        rows, grades = judgements.documents[entries].tolist(), judgements.grades[entries].tolist()
        found[query] = {documents[row].id: grade for row, grade in zip(rows, grades, strict=True)}
    return found
