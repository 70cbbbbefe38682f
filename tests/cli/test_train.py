from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.training.checkpointing import read_checkpoint

pytestmark = pytest.mark.slow

Command = Callable[..., Any]

QUICK = """
model: {embedding_dim: 24, hidden_dim: 8, num_layers: 2}
training: {batch_size: 32, num_epochs: 2, save_every_n_epochs: 1, device: cpu}
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
    return run, jasper("train", "--config", quick, "--dataset-dir", dataset, "--output-dir", run, "--json")


def test_a_run_leaves_its_figures_and_files(training: tuple[Path, Any]) -> None:
    run, outcome = training
    assert outcome.code == 0, outcome.err
    metrics = json.loads(outcome.out)
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert (metrics["split"], metrics["best_metric"]) == ("test", "val/ndcg@10")
    variants = metrics["steering_variants"]
    assert {"ndcg@10", "ndcg@10_question", "ndcg@10_centroid", "recall@10", "mrr@10_residual"} <= set(variants)
    assert metrics["systems"]["plain"]["ndcg@10"] == pytest.approx(variants["ndcg@10_question"], abs=1e-6)
    assert {"best_epoch", "best_value", "verdict", "steering_modes", "trained_on"} <= set(metrics)
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {
        *("config.yaml", "metrics.json", "metrics.jsonl", "training_history.csv", "training_history.json"),
        *("loss_curves.png", "steering_distribution.png", "checkpoints/best.pt", "checkpoints/final.pt"),
        *("checkpoints/epoch_0000.pt", "checkpoints/epoch_0001.pt"),
        *("model/jasper.json", "report.html", "splits.json", "runs/test.plain.trec", "runs/test.hybrid.trec"),
    } <= files
    # Whichever epoch was the best: the history is that of the whole run.
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert "epoch 1: loss" in outcome.err
    assert "n_neg: 8" in (run / "config.yaml").read_text()
    assert f'next:\n  jasper search --run {run} "your question"' in outcome.err
    assert f"report: {run / 'report.html'}" in outcome.err


def test_a_run_can_be_searched_and_evaluated(jasper: Command, training: tuple[Path, Any], data: Path) -> None:
    run, trained = training
    found = jasper("search", "--run", run, "automobile or physician or road?", "-k", 3, "--json", "--offline")
    assert found.code == 0, found.err
    assert len(json.loads(found.out)["hits"]) == 3
    steered = jasper("search", "--run", run, "automobile", "--steer", "#1", "--offline")
    assert steered.code == 0, steered.err
    own = jasper("evaluate", "--run", run, "--json")
    assert json.loads(own.out) == json.loads(trained.out)
    # The splits of the run are those of its dataset.
    again = jasper("evaluate", "--run", run, "--data", data, "--json", "--offline")
    assert again.code == 0, again.err
    systems, before = json.loads(again.out)["systems"], json.loads(trained.out)["systems"]
    for name in ("plain", "jasper", "hybrid"):
        assert systems[name]["ndcg@10"] == pytest.approx(before[name]["ndcg@10"], abs=1e-6)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def contents(root: Path, *names: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for name in names for p in sorted(root.glob(name)) if p.is_file()}


def test_an_interrupt_says_how_to_go_on_and_leaves_the_older_model(
    jasper: Command,
    training: tuple[Path, Any],
    dataset: Path,
    quick: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Path(shutil.copytree(training[0], tmp_path / "run"))
    kept = ("model/**/*", "runs/*", "metrics.json", "report.html", "splits.json")
    before = contents(run, *kept)
    command = ["train", "--config", quick, "--dataset-dir", dataset, "--output-dir", run, "--quiet"]

    def stopped(where: str, *more: object) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(where, interrupted)
            outcome = jasper(*command, *more)
        assert (outcome.code, outcome.out) == (130, "")
        assert contents(run, *kept) == before
        said: str = outcome.err
        return said

    checkpoints = run / "checkpoints"
    trainer = "jasper_rag.training.jasper_trainer.JASPERTrainer"
    assert "before the first checkpoint; the same command starts anew" in stopped(f"{trainer}.validate")
    assert f"--resume {checkpoints / 'best.pt'} to go on" in stopped(f"{trainer}.train_epoch")
    given = checkpoints / "epoch_0000.pt"
    assert f"--resume {given} to go on" in stopped(f"{trainer}.train_epoch", "--resume", given)
    said = stopped("jasper_rag.run_directory.write_report")
    assert said == f"jasper: interrupted; give the same command with --resume {checkpoints / 'final.pt'} to go on" + (
        " from there.\n"
    )
    done = jasper(*command, "--resume", checkpoints / "final.pt", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["best_value"] == json.loads(training[1].out)["best_value"]


def test_without_texts_a_run_trains_and_says_that_there_is_no_model(
    jasper: Command, training: tuple[Path, Any], dataset: Path, quick: Path, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    sums = json.loads((bare / "checksums.json").read_text())
    for name in ("documents.jsonl", "questions.jsonl"):
        (bare / name).unlink()
        del sums["files"][name]
    (bare / "checksums.json").write_text(json.dumps(sums))
    run = tmp_path / "run"
    command = ["train", "--config", quick, "--dataset-dir", bare, "--output-dir", run, "--epochs", 1]
    outcome = jasper(*command, "--json")
    assert outcome.code == 0, outcome.err
    assert "no model/ will be written" in outcome.err
    assert "holds no texts (documents.jsonl, questions.jsonl)" in outcome.err
    metrics = json.loads(outcome.out)
    assert set(metrics) == {"split", "best_epoch", "best_metric", "best_value", "steering_variants"}
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert not (run / "model").exists()
    shutil.copytree(training[0] / "model", run / "model")
    again = jasper(*command, "--resume", run / "checkpoints" / "final.pt")
    assert f"{run / 'model'} is of an earlier run and stays as it is" in again.err
    assert "the question itself" in again.out


def test_the_documented_settings_train(jasper: Command, dataset: Path, repository: Path, tmp_path: Path) -> None:
    outcome = jasper(
        *("train", "--config", repository / "configs" / "jasper_base.yaml", "--dataset-dir", dataset),
        *("--output-dir", tmp_path / "run", "--epochs", 1, "--device", "cpu"),
    )
    assert outcome.code == 0, outcome.err
    assert "model.embedding_dim is 768 in the settings, 24 in the dataset; 24 is used" in outcome.err
    assert "the question itself" in outcome.out
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "final.pt")["epoch"] == 0


def test_a_run_goes_on_and_says_where_it_ends(
    jasper: Command, training: tuple[Path, Any], dataset: Path, quick: Path, tmp_path: Path
) -> None:
    run, _ = training
    command = ["train", "--config", quick, "--dataset-dir", dataset, "--output-dir", tmp_path / "run"]
    outcome = jasper(*command, "--resume", run / "checkpoints" / "epoch_0000.pt")
    assert outcome.code == 0, outcome.err
    assert "going on after epoch 0 of" in outcome.err
    whole, again = (read_checkpoint(root / "checkpoints" / "final.pt") for root in (run, tmp_path / "run"))
    for name, tensor in whole["model_state_dict"].items():
        assert torch.equal(again["model_state_dict"][name], tensor)
    finished = jasper(*command, "--resume", tmp_path / "run" / "checkpoints" / "final.pt")
    assert (finished.code, "nothing left to train: 2 of 2 epochs are done" in finished.err) == (0, True)
    longer = jasper(*command, "--resume", tmp_path / "run" / "checkpoints" / "final.pt", "--epochs", 3, "--quiet")
    assert (longer.code, longer.err) == (0, "")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--resume", "nowhere.pt"], "nowhere.pt: there is no checkpoint here"),
        (["--resume", __file__], "cannot be read as a checkpoint"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--dataset-dir", "nowhere"], "nowhere"),
        (["--device", "tpu"], "device"),
        (["--epochs", "0"], "epochs"),
    ],
)
def test_bad_input_exits_with_2(
    jasper: Command, dataset: Path, quick: Path, tmp_path: Path, changed: list[str], message: str
) -> None:
    flags: dict[str, object] = {"--config": quick, "--dataset-dir": dataset, "--output-dir": tmp_path / "run"}
    flags[changed[0]] = changed[1]
    outcome = jasper("train", *(part for flag in flags.items() for part in flag))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_dataset_must_be_named(jasper: Command, tmp_path: Path) -> None:
    outcome = jasper("train", "--output-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "no dataset to train on" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_key_that_is_not_known_names_the_nearest(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("training: {learning_rat: 0.1}\n")
    outcome = jasper("train", "--config", path, "--dataset-dir", dataset, "--output-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "Did you mean 'learning_rate'?" in outcome.err


def test_a_divergence_is_told_with_its_remedy(jasper: Command, dataset: Path, quick: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(QUICK.replace("device: cpu", "device: cpu, learning_rate: 1.0e+30, max_grad_norm: 0"))
    outcome = jasper("train", "--config", path, "--dataset-dir", dataset, "--output-dir", tmp_path / "run", "--debug")
    assert outcome.code != 0
    assert "diverged" in outcome.err
    assert "warm up longer" in outcome.err
    assert (tmp_path / "run" / "checkpoints" / "best.pt").is_file()
