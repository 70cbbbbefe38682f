from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.fitting.dataset_fitting import TRAINED, fit_dataset, read_source, why_no_model
from jasper_rag.fitting.model_fitting import NO_TEST, FitRecord
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import unit
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.records import RetrievalSet
from jasper_rag.training.predictor_training import predict
from jasper_rag.training.run_config import load_run_config
from jasper_rag.training.training_run import TrainingRun, prepare_run

pytestmark = pytest.mark.slow

Build = Callable[..., Path]

QUICK: dict[str, Any] = {
    "model.hidden_dim": 16,
    "model.num_layers": 2,
    "training.batch_size": 16,
    "training.num_epochs": 12,
    "training.learning_rate": 0.01,
    "training.device": "cpu",
    "training.seed": 3,
    "dataset.n_neg": None,
}


class Words:
    """A bag of words with the given directions, which knows its name and limit."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        rows = [[self._vectors[word] for word in re.findall(r"[a-z]+", text.lower())] for text in texts]
        return unit(np.array([np.sum(row, axis=0) for row in rows], dtype=np.float32))

    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(name="words", weights_sha256="1" * 64, dimension=24, max_seq_length=64)


@pytest.fixture(scope="module")
def words(word_vectors: dict[str, list[float]]) -> Words:
    return Words(word_vectors)


@pytest.fixture(scope="module")
def build(synonym_set: RetrievalSet, words: Words, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build(split_ratios=...)` writes a dataset of the 160 synonym questions, 24 dimensions, 4 clusters."""

    def write(**changes: Any) -> Path:
        settings = {"n_clusters": 4, "negatives": {"n_neg": 3}, "split": "source", **changes}
        plan = plan_build(BuildInput(synonym_set), BuildConfig.model_validate(settings))
        folder = tmp_path_factory.mktemp("datasets")
        return write_dataset(build_dataset(plan, words, EmbeddingStore(folder / "store")), folder / "dataset")

    return write


@pytest.fixture(scope="module")
def root(build: Build) -> Path:
    """96 train, 32 val and 32 test questions; shared, so leave it as it is."""
    return build(split_ratios=(0.6, 0.2, 0.2))


def trained(root: Path, output_dir: Path, **changes: Any) -> TrainingRun:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    run = prepare_run(load_run_config(None, QUICK | dotted), root, output_dir)
    run.trainer.fit()
    run.trainer.load_best()
    return run


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    return trained(root, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def finished(run: TrainingRun) -> tuple[FitRecord, SavedModel]:
    return fit_dataset(run, read_source(run), 2.5)


def test_the_record_says_what_training_and_its_dataset_say(
    run: TrainingRun, finished: tuple[FitRecord, SavedModel], synonym_set: RetrievalSet
) -> None:
    record, model = finished
    val, test = run.measure("val"), run.measure("test")
    assert val["ndcg@10"] > val["ndcg@10_question"] + 0.1
    runs = record.comparison.runs
    assert record.comparison.split == "test"
    assert runs["plain"].values["ndcg@10"].mean() == pytest.approx(test["ndcg@10_question"], abs=1e-6)
    assert record.candidates.dev_ndcg == {TRAINED: pytest.approx(val["ndcg@10"], abs=1e-6)}
    guidance = record.topics.guidance
    assert guidance is not None
    assert guidance.dev_ndcg_guided == pytest.approx(val["ndcg@10_centroid"], abs=1e-6)
    assert record.topics.summary().startswith("4 (the dataset's clusters); dev nDCG@10")
    assert "CPU-seconds" not in record.topics.summary()
    metrics = record.to_metrics()
    assert metrics["trained_on"]["chosen"] == TRAINED
    assert metrics["systems"]["jasper"]["train_seconds"] == 2.5
    assert metrics["steering_modes"]["topics"] == 4
    assert NO_TEST not in metrics["verdict"]
    qrels = record.questions.retrieval_set.qrels
    assert {split: len(judged) for split, judged in qrels.items()} == {"train": 96, "dev": 32, "test": 32}
    assert {q: d for judged in qrels.values() for q, d in judged.items()} == synonym_set.qrels["all"]
    assert set(model.documents) == set(synonym_set.documents)


def test_what_ships_is_the_blend_that_dev_chooses_and_never_worse_there(
    finished: tuple[FitRecord, SavedModel],
) -> None:
    record, model = finished
    curve = record.guard.curve
    assert model.guard.alpha > 0
    assert curve[model.guard.alpha] == max(curve.values()) >= curve[0.0]
    systems = record.to_metrics()["systems"]
    assert systems["jasper"]["ndcg@10"] > systems["plain"]["ndcg@10"] + 0.05


def test_settings_are_those_of_training_encoder_and_dataset(finished: tuple[FitRecord, SavedModel]) -> None:
    config = finished[1].config
    assert (config["seed"], config["language"]) == (3, "english")
    assert (config["encoder"]["name"], config["encoder"]["max_seq_length"]) == ("words", 64)
    assert finished[1].identity.weights_sha256 == "1" * 64


@pytest.mark.parametrize("paths", [{}, {"model__residual": False, "model__linear_path": False}, {"model__mlp": False}])
def test_a_saved_model_searches_as_the_one_in_memory(
    root: Path, words: Words, synonym_set: RetrievalSet, tmp_path: Path, paths: dict[str, bool]
) -> None:
    run = trained(root, tmp_path / "run", training__num_epochs=1, **paths)
    with torch.no_grad():
        for parameter in run.trainer.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    record, model = fit_dataset(run, read_source(run))
    model = dataclasses.replace(model, guard=dataclasses.replace(model.guard, alpha=0.7))
    memory = Jasper(model, words, record)
    memory.save(tmp_path / "model")
    loaded = Jasper.load(tmp_path / "model", encoder=words)
    asked = [query.text for query in synonym_set.queries[:20]]
    vectors = words.encode(asked, "query")
    with torch.no_grad():
        expected = run.trainer.model.eval()(torch.from_numpy(vectors), None).numpy()
    np.testing.assert_allclose(predict(loaded.model.predictor, vectors), expected, atol=1e-6)
    np.testing.assert_array_equal(loaded.transform(vectors), memory.transform(vectors))
    for steer in (None, "#2"):
        one, other = (each.search_many(asked, 5, steer=steer) for each in (memory, loaded))
        assert one == other
    assert one != memory.search_many(asked, 5)
    assert [topic.name for topic in loaded.topics] == list(read_source(run).texts.clusters)
    assert loaded.topics[0].terms


@pytest.mark.filterwarnings("ignore:.*the test split is missing")
def test_without_a_test_split_the_comparison_is_on_dev_and_says_so(build: Build, tmp_path: Path) -> None:
    root = build(split_ratios=(0.8, 0.2, 0.0))
    run = trained(root, tmp_path, training__num_epochs=1)
    record, _ = fit_dataset(run, read_source(run))
    metrics = record.to_metrics()
    assert (metrics["split"], metrics["questions"]) == ("dev", 32)
    assert metrics["verdict"].endswith(NO_TEST)
    assert set(record.embedded.splits) == {"train", "dev"}
    assert record.steering is not None
    assert record.questions.real_test == 0


def test_a_learnt_source_encoder_makes_no_model(root: Path, tmp_path: Path) -> None:
    run = prepare_run(load_run_config(None, QUICK | {"ema.target": "ema"}), root, tmp_path)
    assert "ema.target is ema" in str(why_no_model(run))
    with pytest.raises(ValueError, match=r"ema\.target is ema"):
        fit_dataset(run, read_source(run))


@pytest.mark.parametrize(
    ("encoder", "problem"),
    [
        (None, "names no encoder"),
        ({"name": "words"}, "missing ['dimension']"),
        ({"name": "words", "dimension": 8}, "an encoder of 8 dimensions"),
    ],
)
def test_without_a_known_encoder_there_is_no_model(
    root: Path, tmp_path: Path, encoder: dict[str, Any] | None, problem: str
) -> None:
    copied = Path(shutil.copytree(root, tmp_path / "dataset"))
    config = json.loads((copied / "config.json").read_text())
    config["encoder"] = encoder
    (copied / "config.json").write_text(json.dumps(config))
    run = prepare_run(load_run_config(None, QUICK), copied, tmp_path)
    assert problem in str(why_no_model(run))
    with pytest.raises(InputError) as caught:
        read_source(run)
    assert problem in caught.value.problem


def test_without_texts_or_relevant_pairs_there_is_no_model(root: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(root, tmp_path / "dataset"))
    run = prepare_run(load_run_config(None, QUICK), copied, tmp_path)
    assert why_no_model(run) is None
    relevance = run.datasets["train"].tensors.tensors["pair_relevance"]
    relevance[run.datasets["train"].split_indices] = 0.0
    assert why_no_model(run) == "no pair of the train split is relevant"
    (copied / "documents.jsonl").unlink()
    assert "holds no texts (documents.jsonl)" in str(why_no_model(run))


def test_vectors_of_another_length_are_scaled(run: TrainingRun, finished: tuple[FitRecord, SavedModel]) -> None:
    tensors = run.datasets["train"].tensors.tensors
    kept = tensors["source_embs"]
    tensors["source_embs"] = kept * 3
    try:
        _, model = fit_dataset(run, read_source(run))
    finally:
        tensors["source_embs"] = kept
    np.testing.assert_allclose(model.vectors.vectors, finished[1].vectors.vectors, atol=1e-6)
