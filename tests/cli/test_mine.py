from __future__ import annotations

import json
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import EXTRA_FILES, write_dataset
from jasper_rag.data.conversion import convert_dataset
from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.dataset_layout import TEXT_FILES
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.jasper import Jasper
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def built(jasper: Command, data: Path, word_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with the encoder of `run`; shared, so copy it."""
    root = tmp_path_factory.mktemp("datasets") / "synonyms"
    flags = ["--data", data, "--encoder", word_model, "--n-neg", 4, "--n-clusters", 6, "-q"]
    assert jasper("build", *flags, "--output-dir", root).code == 0
    return root


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy to mine for."""
    return Path(shutil.copytree(built, tmp_path / "dataset"))


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_similar_tier_follows_the_moved_questions(jasper: Command, run: Path, dataset: Path) -> None:
    before = files_of(dataset)
    outcome = jasper("mine", "--run", run, "--dataset", dataset, "--alpha", 1)
    assert (outcome.code, outcome.err) == (0, "")
    heads, *rows = [line.split() for line in outcome.out.splitlines()]
    assert heads[:3] == ["tier", "negatives", "changed"]
    assert [row[0] for row in rows] == ["in-cluster", "adjacent", "similar", "random"]
    after = files_of(dataset)
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {f"{name}.safetensors" for name in ("hard_negatives", "negative_tiers", "negative_scores")}
    assert "hard_negatives.safetensors" in changed
    assert set(after) == set(before)

    splits = JASPERSteeringDataset.create_combined_splits(dataset)
    held = {name: tensor.numpy() for name, tensor in splits["train"].tensors.all_tensors().items()}
    model = Jasper.load(run, offline=True)
    model.model = replace(model.model, guard=replace(model.model.guard, alpha=1.0))
    moved = model.transform(held["question_embs"])
    clusters = load_file(dataset / "source_cluster_id.safetensors")["source_cluster_id"]
    pairs = held["pair_index"]
    train = np.zeros(len(held["source_embs"]), dtype=bool)
    train[pairs[held["train_idx"], 1]] = True
    kept = load_file(dataset / "negative_scores.safetensors")["negative_scores"]
    for row in held["train_idx"]:
        question, source = pairs[row]
        scores = held["source_embs"] @ moved[question]
        np.testing.assert_allclose(kept[row], scores[held["hard_negatives"][row]], atol=1e-5)
        assert train[held["hard_negatives"][row]].all()
        positive = scores[source]
        open_ = train & (clusters != clusters[source]) & (scores <= 0.95 * positive)
        similar = held["hard_negatives"][row][held["negative_tiers"][row] == 3]
        best = np.sort(scores[open_])[::-1][: len(similar)]
        np.testing.assert_allclose(np.sort(scores[similar])[::-1], best, atol=1e-5)


@pytest.mark.slow
def test_a_model_that_moves_nothing_changes_nothing(jasper: Command, run: Path, dataset: Path) -> None:
    before = files_of(dataset)
    outcome = jasper("mine", "--run", run, "--dataset", dataset, "--alpha", 0, "--json")
    assert outcome.code == 0, outcome.err
    tiers = json.loads(outcome.out)["tiers"]
    assert [tier["changed"] for tier in tiers] == [0, 0, 0, 0]
    assert sum(tier["after"] for tier in tiers) == 640
    after = files_of(dataset)
    for name in ("hard_negatives", "negative_tiers"):
        one, other = (load_bytes(files[f"{name}.safetensors"], name) for files in (before, after))
        np.testing.assert_array_equal(one, other)
    other_seed = jasper("mine", "--run", run, "--dataset", dataset, "--alpha", 0, "--json", "--seed", 5)
    assert json.loads(other_seed.out)["tiers"][3]["changed"] > 0


def load_bytes(content: bytes, name: str) -> np.ndarray:
    return load(content)[name]


@pytest.mark.slow
@pytest.mark.parametrize("storage_format", ["pt", "hdf5"])
def test_the_format_of_the_directory_is_kept(
    jasper: Command, run: Path, dataset: Path, tmp_path: Path, storage_format: str
) -> None:
    pytest.importorskip("h5py")
    root = convert_dataset(dataset, tmp_path / "converted", storage_format)  # type: ignore[arg-type]
    serving = JASPERSteeringDataset(root, "train")
    config = (root / "config.json").read_bytes()
    for directory in (dataset, root):
        outcome = jasper("mine", "--run", run, "--dataset", directory, "--alpha", 1, "-q")
        assert outcome.code == 0, outcome.err
    assert (root / "config.json").read_bytes() == config
    assert (root / "hard_negatives.pt").is_file()
    assert not (root / "hard_negatives.safetensors").exists()
    assert serving.reload_negatives()
    ours = JASPERSteeringDataset(dataset, "train")
    for found in (serving, JASPERSteeringDataset(root, "train")):
        np.testing.assert_array_equal(found.hard_negatives, ours.hard_negatives)
        np.testing.assert_array_equal(found.negative_tiers, ours.negative_tiers)


@pytest.mark.slow
def test_a_directory_of_the_original_project(jasper: Command, run: Path, dataset: Path, tmp_path: Path) -> None:
    root = convert_dataset(dataset, tmp_path / "foreign", "pt")
    for name in (*TEXT_FILES, *EXTRA_FILES):
        (root / name).unlink()
    outcome = jasper("mine", "--run", run, "--dataset", root)
    assert outcome.code == 0, outcome.err
    assert "only the length of vectors was compared" in outcome.err
    found = JASPERSteeringDataset(root, "train")
    assert found.hard_negatives.shape == (160, 4)
    counts = np.bincount(found.negative_tiers.numpy().ravel(), minlength=5)
    assert counts[1:].min() > 100


@pytest.mark.slow
def test_a_reader_sees_whole_files_at_any_moment(
    jasper: Command, run: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = JASPERSteeringDataset(dataset, "train")
    stop = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(serving.reload_negatives())

    reader = threading.Thread(target=read)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        reader.start()
        try:
            for alpha in (1, 0, 0.5):
                assert jasper("mine", "--run", run, "--dataset", dataset, "--alpha", alpha, "-q").code == 0
        finally:
            stop.set()
            reader.join()
    assert seen
    assert all(seen)
    assert serving.reload_negatives()
    np.testing.assert_array_equal(serving.hard_negatives, JASPERSteeringDataset(dataset, "train").hard_negatives)


@pytest.mark.slow
def test_another_encoder_is_refused(jasper: Command, run: Path, dataset: Path, tmp_path: Path) -> None:
    before = files_of(dataset)
    config = json.loads((dataset / "config.json").read_text())
    config["encoder"]["weights_sha256"] = "0" * 64
    (dataset / "config.json").write_text(json.dumps(config))
    outcome = jasper("mine", "--run", run, "--dataset", dataset)
    assert (outcome.code, outcome.out) == (2, "")
    assert "the run has another encoder" in outcome.err
    assert "weights (SHA-256)" in outcome.err
    config["encoder"] = {"dimension": 24}
    (dataset / "config.json").write_text(json.dumps(config))
    broken = jasper("mine", "--run", run, "--dataset", dataset)
    assert broken.code == 2
    assert "encoder identity" in broken.err
    (dataset / "config.json").write_bytes(before["config.json"])
    assert files_of(dataset) == before


@pytest.mark.slow
def test_vectors_of_another_length_are_refused(
    jasper: Command, run: Path, synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path
) -> None:
    short = type(word_encoder)(dimension=8)  # type: ignore[call-arg]
    config = BuildConfig.model_validate({"n_clusters": 3, "negatives": {"n_neg": 2}})
    built = build_dataset(plan_build(BuildInput(synonym_set), config), short, EmbeddingStore(tmp_path / "store"))
    outcome = jasper("mine", "--run", run, "--dataset", write_dataset(built, tmp_path / "dataset"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "its vectors have 8 dimensions, those of the run 24" in outcome.err


def test_bad_places_and_settings(jasper: Command, run: Path, dataset: Path, tmp_path: Path) -> None:
    no_dataset = jasper("mine", "--run", run, "--dataset", tmp_path / "nowhere")
    assert (no_dataset.code, no_dataset.out) == (2, "")
    assert "there is no such directory" in no_dataset.err
    assert not (tmp_path / "nowhere").exists()
    no_run = jasper("mine", "--run", tmp_path / "nowhere", "--dataset", dataset)
    assert no_run.code == 2
    assert "there is no trained model here" in no_run.err
    too_far = jasper("mine", "--run", run, "--dataset", dataset, "--alpha", 1.5)
    assert too_far.code == 2
    config = json.loads((dataset / "config.json").read_text())
    config["build"]["negatives"] = {"margin": "wide"}
    (dataset / "config.json").write_text(json.dumps(config))
    bad = jasper("mine", "--run", run, "--dataset", dataset)
    assert bad.code == 2
    assert "[build.negatives]" in bad.err


@pytest.mark.slow
def test_a_training_under_way_mines_with_its_best_checkpoint(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    """Before a model is there, the best checkpoint counts; a checkpoint by its name gives the same."""
    settings = tmp_path / "tiny.yaml"
    settings.write_text(
        "model: {mlp: false}\ntraining: {batch_size: 8, num_epochs: 3, learning_rate: 0.03, device: cpu}\n"
    )
    trained = tmp_path / "trained"
    command = ("train", "--config", settings, "--dataset-dir", dataset, "--output-dir", trained, "--quiet")
    assert jasper(*command).code == 0
    shutil.rmtree(trained / "model")
    before = files_of(dataset)
    outcome = jasper("mine", "--run", trained, "--dataset", dataset, "--json")
    assert outcome.code == 0, outcome.err
    changed = {tier["name"]: tier["changed"] for tier in json.loads(outcome.out)["tiers"]}
    assert changed["similar"] > 0
    after = files_of(dataset)
    assert after["hard_negatives.safetensors"] != before["hard_negatives.safetensors"]
    by_name = jasper("mine", "--run", trained / "checkpoints" / "best.pt", "--dataset", dataset, "--json")
    assert not any(tier["changed"] for tier in json.loads(by_name.out)["tiers"])
    still = jasper("mine", "--run", trained, "--dataset", dataset, "--json", "--alpha", 0)
    assert still.code == 0
    lost = jasper("mine", "--run", tmp_path / "nothing.pt", "--dataset", dataset)
    assert lost.code == 2
    assert "config.yaml" in lost.err
