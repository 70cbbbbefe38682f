"""The documented commands and calls of the Gaussian encoders' training guide and readiness notes, block for block.

`COMMANDS` are the blocks; what a block leaves out (`...`) is filled in by `FILLED`, files it only names by `workplace`.
A comment after a backslash, which no shell takes for a continued line, counts as standing behind its flag. With the
documents in the folder that `JASPER_DOCUMENTS` names, their own blocks are compared with ours.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_DATA = "--train_data data/processed/train.json --val_data data/processed/val.json"
_REAL = "--train_data data/processed/real/train.json --val_data data/processed/real/val.json"
_MADE = "--generate_pairs --num_pairs 10000"
_SHARES = "--split 0.8 0.1 0.1 --output_dir data/processed"
_EVALUATE = "evaluate.py --model_path checkpoints/best_model.pt --test_data data/processed/test_eval.json"
_TINY = f"train.py {_DATA} --epochs 1 --batch_size 4 --output_dim 128 --output_dir checkpoints/test"
COMMANDS: dict[str, tuple[str, ...]] = {
    "quick start": (
        f"prepare_data.py --documents data/docs.txt --generate_pairs {_SHARES}",
        f"train.py {_DATA} --epochs 3",
        _EVALUATE,
    ),
    "from documents": (f"prepare_data.py --documents data/raw/documents.txt {_MADE} --add_negatives {_SHARES}",),
    "from CSV": (f"prepare_data.py --csv_file data/pairs.csv {_SHARES}",),
    "basic training": (f"train.py {_DATA} --epochs 3 --batch_size 8 --output_dir checkpoints",),
    "all options": (
        f"train.py {_DATA} --epochs 5 --batch_size 16 --learning_rate 2e-5 --weight_decay 0.01 --warmup_steps 100 "
        "--output_dim 512 --freeze_early_layers --lambda_isotropy 1.0 --lambda_reg 0.1 --margin 1.0 "
        "--output_dir checkpoints --mixed_precision",
    ),
    "evaluation": (f"{_EVALUATE} --batch_size 32 --top_k 100 --output_file results/eval_results.json",),
    "less memory": ("train.py --batch_size 4 ...", "train.py --freeze_early_layers ..."),
    "weights": ("train.py --lambda_isotropy 1.5 --lambda_reg 0.2 --margin 0.5",),
    "fine-tuning": (
        "train.py --model_path checkpoints/pretrained.pt --learning_rate 1e-5 --epochs 2 --freeze_early_layers",
    ),
    "workflow": (
        f"prepare_data.py --documents data/raw/docs.txt {_MADE} {_SHARES}",
        f"train.py {_DATA} --epochs 3 --batch_size 8 --output_dir checkpoints",
        f"{_EVALUATE} --output_file results/results.json",
    ),
    "prepared files": (
        "prepare_data.py --documents data/raw/all_docs.txt --generate_pairs --num_pairs 100 --split 0.7 0.15 0.15 "
        "--output data/processed/train.json --output_dir data/processed --seed 42",
    ),
    "quick test": (f"{_TINY} --device cpu",),
    "full training": (
        f"train.py {_DATA} --epochs 3 --batch_size 8 --output_dim 512 --learning_rate 2e-5 --mixed_precision "
        "--output_dir checkpoints/full --device cuda",
    ),
    "head alone": (
        f"train.py {_DATA} --epochs 3 --batch_size 16 --output_dim 512 --freeze_base --projection_learning_rate 5e-4 "
        "--mixed_precision --output_dir checkpoints/hybrid --device cuda",
    ),
    "quick test, any device": (_TINY,),
    "real data": (
        f"prepare_data.py --input_dir data/raw/your_docs/ {_MADE} --split 0.8 0.1 0.1 --output_dir data/processed/real",
        "download_msmarco.py --output data/processed/msmarco --num_examples 50000",
    ),
    "production": (
        f"train.py {_REAL} --epochs 3 --batch_size 8 --output_dim 512 --mixed_precision "
        "--output_dir checkpoints/production",
        "evaluate.py --model_path checkpoints/production/best_model.pt "
        "--test_data data/processed/real/test_eval.json --output_file results/evaluation.json",
    ),
}
FILLED = ["--epochs", "1"]
QUICK = {"prepared files", "quick test", "head alone"}
"""Blocks that every run of the tests runs."""
IN_A_SHELL = ("quick start", "weights")

Script = Callable[..., str]


def filled(command: str) -> list[str]:
    """The words of a command, what the block leaves out filled in, on a device that is there."""
    import torch

    words = shlex.split(command)
    if "..." in words:
        place = words.index("...")
        words[place : place + 1] = FILLED
    if words[0] == "download_msmarco.py":
        words += ["--source", "rows.jsonl"]
    return [word if word != "cuda" or torch.cuda.is_available() else "cpu" for word in words]


@pytest.mark.parametrize("block", COMMANDS)
def test_flags_are_known(block: str, verbs: Mapping[str, Callable[..., None]]) -> None:
    import typer

    for command in COMMANDS[block]:
        words = [word for word in shlex.split(command) if word != "..."]
        program = typer.Typer(
            add_completion=False, context_settings={"token_normalize_func": lambda token: token.replace("_", "-")}
        )
        program.command()(verbs[words[0]])
        context = typer.main.get_command(program).make_context(words[0], words[1:])
        for flag in re.findall(r"--(\w+)", command):
            assert context.params[flag] not in (None, False, "auto"), flag


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in COMMANDS]
)
def test_a_block_runs(block: str, script: Script, workplace: Path) -> None:
    for command in COMMANDS[block]:
        words = filled(command)
        said = script(*words)
        for flag, place in itertools.pairwise(words):
            if flag in ("--output", "--output_dir", "--output_file"):
                assert Path(place).exists(), said
        if words[0] == "train.py":
            log = Path("training.log").read_text(encoding="utf-8")
            assert " - INFO - Training complete! Final model saved to checkpoints" in log
            if "--projection_learning_rate" in words:
                assert "Learning rates (peak): projection 5.00e-04\n" in log


@pytest.mark.slow
@pytest.mark.parametrize("block", IN_A_SHELL)
def test_a_block_runs_in_a_shell(block: str, workplace: Path, repository: Path) -> None:
    (workplace / "scripts").symlink_to(repository / "scripts")
    lines = [
        f"python scripts/{command.replace(' --', chr(32) + chr(92) + chr(10) + '  --')}" for command in COMMANDS[block]
    ]
    (workplace / "bin").mkdir()
    shim = workplace / "bin/python"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(repository / "src"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Training complete!" in done.stderr


_TITLES = ("# Training Guide for RAGCUN", "# Training Readiness Fixes - Complete Summary")


def documented_commands() -> list[list[str]]:
    """The words of every command of the documents' shell blocks that runs one of our scripts."""
    found = []
    for path in sorted(Path(os.environ["JASPER_DOCUMENTS"]).iterdir()):
        text = path.read_text(encoding="utf-8")
        if text.splitlines()[0] not in _TITLES:
            continue
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            joined = re.sub(r"\\[ \t]*(#[^\n]*)?\n", " ", block)
            for line in joined.splitlines():
                words = shlex.split(line, comments=True) if line.startswith("python scripts/") else []
                if words:
                    found.append([words[1].removeprefix("scripts/"), *words[2:]])
    return found


@pytest.mark.skipif("JASPER_DOCUMENTS" not in os.environ, reason="JASPER_DOCUMENTS names no folder")
def test_no_command_is_left_out() -> None:
    ours = [shlex.split(command) for block in COMMANDS.values() for command in block]
    theirs = documented_commands()
    assert len(theirs) >= 20
    assert sorted(theirs) == sorted(ours)
