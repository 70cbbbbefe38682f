from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.fitting.split_explanations import SplitExplanations
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.serving.saved_model import read_model
from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.subspace_config import load_subspace_config
from jasper_rag.training.subspace_run import prepare_subspace_run

pytestmark = pytest.mark.slow

Command = Callable[..., Any]

QUICK = """
model: {embedding_dim: 24, hidden_dim: 8, num_layers: 2}
router: {hidden_dim: 8}
training: {batch_size: 32, num_epochs: 3, save_every_n_epochs: 1, device: cpu}
xai: {xai_every_n_epochs: 2}
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "quick.yaml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="module")
def training(jasper: Command, dataset: Path, quick: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run, and what was said while it was made; shared, so leave it as it is."""
    run = tmp_path_factory.mktemp("runs") / "first"
    flags = ("--subspace", "--config", quick, "--dataset-dir", dataset, "--output-dir", run)
    return run, jasper("train", *flags, "--json")


def test_a_run_leaves_a_model_that_routes(training: tuple[Path, Any]) -> None:
    run, outcome = training
    assert outcome.code == 0, outcome.err
    metrics = json.loads(outcome.out)
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert set(metrics["routing"]) == {"accuracy@1", "accuracy@3", "nearest_centroid@1", "nearest_centroid@3"}
    model = read_model(run / "model")
    assert isinstance(model.predictor, SubspacePredictor)
    assert model.predictor.num_subspaces == 4
    best = read_checkpoint(run / "checkpoints" / "best.pt")
    assert all(
        torch.equal(model.predictor.state_dict()[name], value) for name, value in best["model_state_dict"].items()
    )
    assert "num_subspaces: 4" in (run / "config.yaml").read_text()


def test_the_val_split_is_explained(training: tuple[Path, Any], dataset: Path) -> None:
    run, _ = training
    # Every second epoch, and the last.
    assert sorted(path.name for path in (run / "xai").iterdir()) == ["xai_epoch_0001.jsonl", "xai_epoch_0002.jsonl"]
    rows = [json.loads(line) for line in (run / "xai" / "xai_epoch_0002.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    names = [cluster["name"] for cluster in json.loads((dataset / "clusters.json").read_text())]
    questions = {
        row["_id"]: row["text"] for row in map(json.loads, (dataset / "questions.jsonl").read_text().splitlines())
    }
    for row in rows:
        assert row["question"] == questions[row["question_id"]]
        assert row["true_topic"] in names
        assert set(row["routing_distribution"]) == set(names)
        assert len(row["similar_pairs"]) == 5
        assert not {"prediction", "coarse_vector", "fine_vector", "predicted_source_emb"} & set(row)
    kept = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    right = sum(row["primary_subspace"] == row["true_topic"] for row in rows) / len(rows)
    assert kept["val/routing_acc"] == pytest.approx(right)


def test_it_can_be_searched_evaluated_and_not_exported(
    jasper: Command, training: tuple[Path, Any], tmp_path: Path
) -> None:
    run, trained = training
    found = jasper("search", "--run", run, "automobile or physician or road?", "-k", 3, "--json", "--offline")
    assert found.code == 0, found.err
    assert len(json.loads(found.out)["hits"]) == 3
    assert json.loads(jasper("evaluate", "--run", run, "--json").out) == json.loads(trained.out)
    refused = jasper("export", "--run", run, "--format", "numpy", "--to", tmp_path / "out")
    assert refused.code == 2
    assert "only linear predictors can be exported" in refused.err


def test_a_run_goes_on_to_the_same_end(
    jasper: Command, training: tuple[Path, Any], dataset: Path, quick: Path, tmp_path: Path
) -> None:
    run, _ = training
    flags = ["--subspace", "--config", quick, "--dataset-dir", dataset, "--output-dir", tmp_path / "run"]
    outcome = jasper("train", *flags, "--resume", run / "checkpoints" / "epoch_0000.pt")
    assert outcome.code == 0, outcome.err
    assert "router, no steering: right topic" in outcome.err
    whole, again = (read_checkpoint(root / "checkpoints" / "final.pt") for root in (run, tmp_path / "run"))
    assert all(torch.equal(again["model_state_dict"][name], value) for name, value in whole["model_state_dict"].items())
    last = "xai/xai_epoch_0002.jsonl"
    assert (tmp_path / "run" / last).read_text() == (run / last).read_text()
    shutil.rmtree(tmp_path / "run")


def test_a_dataset_without_texts_is_explained_by_rows(dataset: Path, quick: Path, tmp_path: Path) -> None:
    run = prepare_subspace_run(load_subspace_config(quick, {"xai.num_similar_pairs": 2}), dataset, tmp_path)
    explanations = SplitExplanations(run, None, tmp_path)
    assert explanations.write() is None
    explanations(0, run.trainer.model)
    assert not explanations.folder.exists()  # every second epoch, but for the last one
    path = explanations.write()
    assert path == tmp_path / "xai" / "xai_epoch_0000.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    assert row["question_id"].isdigit()
    assert list(row["routing_distribution"]) == [f"subspace_{place}" for place in range(4)]
    assert len(row["similar_pairs"]) == 2
    assert explanations.write() is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("router: {temprature: 1.0}", "Did you mean 'temperature'?"),
        ("xai: {cluster_names_file: nowhere.txt}", "nowhere.txt: there is no such file"),
    ],
)
def test_bad_input_exits_with_2(jasper: Command, dataset: Path, tmp_path: Path, settings: str, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(settings + "\ntraining: {device: cpu}\n")
    flags = ("--subspace", "--config", path, "--dataset-dir", dataset, "--output-dir", tmp_path / "run")
    outcome = jasper("train", *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_without_the_flag_a_router_is_an_unknown_section(jasper: Command, dataset: Path, quick: Path) -> None:
    outcome = jasper("train", "--config", quick, "--dataset-dir", dataset)
    assert outcome.code == 2
    assert "unknown key" in outcome.err
