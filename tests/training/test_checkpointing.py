from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.errors import InputError
from jasper_rag.training.checkpointing import periodic_path, read_checkpoint, rotate, write_checkpoint

STATE: dict[str, Any] = {
    "model_state_dict": {"weight": torch.eye(2)},
    "ema_state_dict": {},
    "optimizer_state_dict": {"state": {}, "param_groups": []},
    "global_step": 7,
    "epoch": 2,
    "metrics": {"val/total": 0.5},
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.pt"
    write_checkpoint(path, STATE)
    found = read_checkpoint(path)
    assert torch.equal(found["model_state_dict"]["weight"], torch.eye(2))
    assert {key: found[key] for key in ("global_step", "epoch", "metrics")} == {
        key: STATE[key] for key in ("global_step", "epoch", "metrics")
    }
    assert found["format_version"] == 1


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_checkpoint(path, STATE)
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, STATE | {"history": lambda: None})
    assert read_checkpoint(path)["global_step"] == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


def test_the_original_projects_load(tmp_path: Path) -> None:
    """They have no format version, and know neither random numbers nor history."""
    torch.save(STATE | {"best_val_loss": 0.5}, tmp_path / "theirs.pt")
    assert read_checkpoint(tmp_path / "theirs.pt")["best_val_loss"] == 0.5


def test_a_missing_one_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave --resume out"):
        read_checkpoint(tmp_path / "nowhere" / "best.pt")
    write_checkpoint(tmp_path / "best.pt", STATE)
    with pytest.raises(InputError, match=r"there are: best\.pt"):
        read_checkpoint(tmp_path / "epoch_0009.pt")
    with pytest.raises(InputError, match="no checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "lacks model_state_dict, ema_state_dict"),
        ({key: STATE[key] for key in STATE if key != "metrics"}, "lacks metrics"),
        (STATE | {"epoch": "two"}, "epoch is a str"),
        (STATE | {"model_state_dict": [1]}, "model_state_dict is a list"),
        (STATE | {"format_version": 9}, "format version 9; this one reads 1"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_code_is_not_run(tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    for content in (Crafted(), STATE | {"metrics": Crafted()}):
        torch.save(content, tmp_path / "crafted.pt")
        with pytest.raises(InputError, match="files that hold more than tensors and plain values are refused"):
            read_checkpoint(tmp_path / "crafted.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
def test_damage_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    write_checkpoint(path, STATE)
    whole = path.read_bytes()
    generator = random.Random(0)
    for number in range(60):
        damaged = bytearray(whole)
        if number % 2:
            damaged = damaged[: generator.randrange(len(whole))]
        else:
            for place in generator.sample(range(len(whole)), 20):
                damaged[place] = generator.randrange(256)
        path.write_bytes(damaged)
        with suppress(InputError):  # some bytes do not matter
            read_checkpoint(path)


def test_only_periodic_ones_are_rotated(tmp_path: Path) -> None:
    for epoch in (0, 4, 9, 12345, 40):
        periodic_path(tmp_path, epoch).touch()
    others = {"best.pt", "final.pt", "epoch_1.pt", "epoch_0001.pt.txt", "my_epoch_0001.pt"}
    for name in others:
        (tmp_path / name).touch()
    assert periodic_path(tmp_path, 7).name == "epoch_0007.pt"
    rotate(tmp_path, 2, 9)
    # Those of later epochs were left by another run, and are no reason to remove this one's.
    kept = {path.name for path in tmp_path.iterdir()} - others
    assert kept == {"epoch_0004.pt", "epoch_0009.pt", "epoch_0040.pt", "epoch_12345.pt"}
    rotate(tmp_path, 2, 12345)
    assert {path.name for path in tmp_path.iterdir()} - others == {"epoch_0040.pt", "epoch_12345.pt"}
