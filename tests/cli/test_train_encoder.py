from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.text.pair_files import TrainingExample, write_examples
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def pairs(synonym_set: RetrievalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of train.json with 120 pairs and val.json with 40."""
    folder = tmp_path_factory.mktemp("processed")
    documents = {document.id: document.text for document in synonym_set.documents}
    found = [
        TrainingExample(query.text, documents[next(iter(synonym_set.qrels["all"][query.id]))])
        for query in synonym_set.queries
    ]
    write_examples(folder / "train.json", found[:120])
    write_examples(folder / "val.json", found[120:])
    return folder


@pytest.fixture
def arguments(pairs: Path, word_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a quick run, in the documents' spelling; the working directory is a temporary one."""
    monkeypatch.chdir(tmp_path)
    given = ["--train_data", pairs / "train.json", "--val_data", pairs / "val.json", "--base_model", word_model]
    settings = "--freeze_base --epochs 2 --batch_size 40 --output_dim 24 --projection_learning_rate 5e-4 --device cpu"
    return [*map(str, given), *settings.split()]


def test_a_run_leaves_the_documented_files_and_log(jasper: Command, arguments: list[str], tmp_path: Path) -> None:
    done = jasper("train-encoder", *arguments, "--output_dir", "checkpoints/hybrid", "--mixed-precision")
    assert done.code == 0, done.err
    folder = tmp_path / "checkpoints/hybrid"
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    wanted = {"best_model.pt", "final_model.pt", "checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt", "train_config.json"}
    assert names == wanted
    log = (tmp_path / "training.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - INFO - Input files validated$", log, re.MULTILINE)
    for line in (
        "Saved config to checkpoints/hybrid/train_config.json",
        "Using device: cpu",
        "Loaded 120 training examples",
        "Starting training...",
        "=" * 60,
        "Epoch 2/2",
        "Training metrics:",
        "  Pos Distance (mean): ",
        "Validation metrics:",
        "  Saved best model to checkpoints/hybrid/best_model.pt",
        "  Saved checkpoint to checkpoints/hybrid/checkpoint_epoch_1.pt",
        "Training complete! Final model saved to checkpoints/hybrid/final_model.pt",
        "Learning rates (peak): projection 5.00e-04",
    ):
        assert f" - INFO - {line}" in log, line
    assert log.splitlines()[0] in done.err
    assert done.out.startswith("Best on val: epoch ")
    best = "checkpoints/hybrid/best_model.pt"
    assert f"next:\n  jasper evaluate-encoder --model_path {best} --test_data " in done.err
    again = jasper("train-encoder", *arguments, "--epochs", 1, "--output_dir", "checkpoints/hybrid", "--quiet")
    assert f"{best} is of an earlier run and will be replaced" in again.err
    for path in folder.glob("checkpoint_epoch_*.pt"):
        path.unlink()  # as a run leaves it that was stopped in its first epoch
    more = jasper("train-encoder", *arguments, "--output_dir", "checkpoints/hybrid", "--resume", "--quiet")
    assert (more.code, more.err) == (0, "")


@pytest.mark.slow
def test_what_to_type_next_names_the_prepared_test(
    jasper: Command, arguments: list[str], pairs: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pairs, tmp_path / "my pairs"))
    (copy / "test_eval.json").write_text("{}")
    done = jasper("train-encoder", *arguments, "--epochs", 1, "--train_data", copy / "train.json")
    assert done.code == 0, done.err
    assert done.err.endswith(f"--model_path checkpoints/best_model.pt --test_data '{copy / 'test_eval.json'}'\n")


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    jasper: Command, arguments: list[str], tmp_path: Path
) -> None:
    done = jasper("train-encoder", *arguments, "--device", "cuda:63")
    assert done.code == 2
    assert "device 'cuda:63' cannot be used" in done.err
    assert "leave it out" in done.err
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_resume_goes_on_and_says_when_nothing_is_left(jasper: Command, arguments: list[str], tmp_path: Path) -> None:
    first = jasper("train-encoder", *arguments, "--epochs", 1, "--resume", "--quiet")
    assert first.code == 0, first.err
    assert not first.err
    assert "No checkpoint in checkpoints yet: starting anew" in (tmp_path / "training.log").read_text()
    again = jasper("train-encoder", *arguments, "--epochs", 1, "--resume")
    assert again.code == 0, again.err
    assert "All 1 epochs were done already" in again.err
    more = jasper("train-encoder", *arguments, "--resume_from", "checkpoints/checkpoint_epoch_1.pt", "--json")
    assert more.code == 0, more.err
    assert "Resuming after epoch 1" in more.err
    found = json.loads(more.out)
    assert found["epoch"] == 2
    assert Path(found["files"]["best_model.pt"]).is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--train_data", "none.json"], "none.json"),
        (["--val_data", "none.json"], "none.json"),
        (["--resume_from", "none.pt"], "Give a checkpoint_epoch_N.pt"),
        (["--resume", "--resume_from", "none.pt"], "Give --resume alone"),
        (["--model_path", "none.pt"], "no checkpoint here"),
        (["--lambda_predictive", "1"], "--use_predictor"),
        (["--loss", "triplet"], "triplet"),
        (["--learning_rate", "-1"], "learning_rate"),
        (["--base_model", "no/such-model"], "cannot be had"),
        (["--device", "abacus"], "abacus"),
        (["--device", "cuda:64"], "cannot be used"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(
    jasper: Command, arguments: list[str], changes: list[str], said: str
) -> None:
    done = jasper("train-encoder", *arguments, *changes)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert "none" not in "".join(changes) or not Path("checkpoints").exists()


def test_flags_and_settings_have_the_same_defaults() -> None:
    import inspect

    from jasper_rag.cli.train_encoder import train_encoder
    from jasper_rag.training.encoder_config import EncoderTrainingConfig

    settings = EncoderTrainingConfig().model_dump()
    flags = {name: flag.default for name, flag in inspect.signature(train_encoder).parameters.items()}
    shared = settings.keys() & flags.keys() - {"output_dir"}
    assert len(shared) > 30
    assert {name: flags[name] for name in shared} == {name: settings[name] for name in shared}


@pytest.mark.slow
def test_an_interrupt_says_how_to_go_on(jasper: Command, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jasper_rag.training.encoder_trainer.EncoderTrainer.fit", stop)
    done = jasper("train-encoder", *arguments)
    assert done.code == 130
    assert "the same command with --resume goes on" in done.err


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository / "src"), "OMP_NUM_THREADS": "1"}


def script(repository: Path, *arguments: str, under: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *under, str(repository / "scripts/train.py"), *arguments]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (torch.load(path, weights_only=True)["model_state_dict"] for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_end(
    repository: Path, environment: dict[str, str], arguments: list[str], tmp_path: Path
) -> None:
    flags = [*arguments, "--epochs", "40"]
    subprocess.run(
        script(repository, *flags, "--output_dir", "whole"), check=True, capture_output=True, env=environment
    )
    process = subprocess.Popen(
        script(repository, *flags, "--output_dir", "killed"), stderr=subprocess.DEVNULL, env=environment
    )
    limit = time.monotonic() + 60
    while not (tmp_path / "killed/checkpoint_epoch_3.pt").is_file() and time.monotonic() < limit:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed/final_model.pt").exists()
    resumed = script(repository, *flags, "--output_dir", "killed", "--resume")
    subprocess.run(resumed, check=True, capture_output=True, env=environment)
    for name in ("final_model.pt", "best_model.pt", "checkpoint_epoch_40.pt"):
        assert same_weights(tmp_path / "whole" / name, tmp_path / "killed" / name), name


@pytest.mark.slow
def test_two_processes_learn_what_one_would(
    repository: Path, environment: dict[str, str], arguments: list[str], tmp_path: Path
) -> None:
    alone = [*arguments, "--batch_size", "40", "--output_dir", "alone"]
    subprocess.run(script(repository, *alone), check=True, capture_output=True, env=environment)
    shared = [*arguments, "--batch_size", "20", "--output_dir", "shared", "--queue_size", "984"]
    under = (
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(20_000 + os.getpid() % 20_000),
    )
    subprocess.run(script(repository, *shared, under=under), check=True, capture_output=True, env=environment)
    one, other = (
        torch.load(tmp_path / name / "final_model.pt", weights_only=True)["model_state_dict"]
        for name in ("alone", "shared")
    )
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=2e-5, rtol=1e-3)
    shutil.rmtree(tmp_path / "shared")
