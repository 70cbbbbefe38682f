"""What a run of encoder training writes, and how it goes on.

A checkpoint is a model that loads by itself, with all that training needs beside it. Random numbers need no state:
those of an epoch depend on the seed and the number of the epoch only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jasper_rag.embedding.gaussian_checkpoint import read_gaussian_checkpoint, write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.training.encoder_config import MODEL_SETTINGS, PLACE_SETTINGS
from jasper_rag.training.encoder_step import EncoderStep
from jasper_rag.training.schedules import go_on, schedule_state

BEST, FINAL, CONFIG = "best_model.pt", "final_model.pt", "train_config.json"

_PERIODIC = re.compile(r"checkpoint_epoch_\d+\.pt")


@dataclass
class EncoderRunState:
    """Where a run stands.

    Args:
        epoch: Last completed one, from 1; 0 before the first.
        best_epoch: Of the best model so far; None before the first measurement.
        best_ndcg: Its nDCG@10 on val; None without val pairs.
        base_ndcg: That of the base model.
        history: A row of figures per epoch.
    """

    epoch: int = 0
    best_epoch: int | None = None
    best_ndcg: float | None = None
    base_ndcg: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def improved_by(self, ndcg: float | None) -> bool:
        """Whether the model of this epoch is the best so far, which is then noted; without a figure the last is."""
        if ndcg is not None and self.best_ndcg is not None and ndcg <= self.best_ndcg:
            return False
        self.best_epoch, self.best_ndcg = self.epoch, ndcg
        return True

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_ndcg": self.best_ndcg,
            "base_ndcg": self.base_ndcg,
            "history": [dict(row) for row in self.history],
        }


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """`checkpoint_epoch_N.pt`."""
    return folder / f"checkpoint_epoch_{epoch}.pt"


def latest_checkpoint(folder: Path) -> Path | None:
    """The one written last, if there is any; others may be of an earlier run in the same folder."""
    found = [(path.stat().st_mtime_ns, path) for path in folder.glob("*.pt") if _PERIODIC.fullmatch(path.name)]
    return max(found)[1] if found else None


def save_model(path: Path, model: GaussianEmbeddingGemma, state: EncoderRunState, settings: Mapping[str, Any]) -> None:
    """Write a model to use: no optimiser, the epoch and its figures beside the weights."""
    figures = dict(state.history[-1]) if state.history else {}
    extra = {"epoch": state.epoch, "metrics": figures, "base_ndcg": state.base_ndcg, "train_config": dict(settings)}
    write_gaussian_checkpoint(path, {**model.state(), **extra})


def saved_epoch(path: Path) -> int | None:
    """Epoch of a model that `save_model` wrote; None where there is none.

    Raises:
        InputError: It is damaged.
    """
    if not path.is_file():
        return None
    epoch = read_gaussian_checkpoint(path).get("epoch")
    return epoch if isinstance(epoch, int) else None


def save_checkpoint(
    path: Path, step: EncoderStep, state: EncoderRunState, settings: Mapping[str, Any], data_sha256: str
) -> None:
    """Write a model with all that training needs to go on."""
    extra = {
        "epoch": state.epoch,
        "run_state": state.plain(),
        "optimizer_state_dict": step.optimizer.state_dict(),
        "scheduler_state_dict": schedule_state(step.scheduler),
        "scaler_state_dict": step.scaler.state_dict(),
        "objective_state_dict": step.objective.state_dict(),
        "train_config": dict(settings),
        "data_sha256": data_sha256,
    }
    write_gaussian_checkpoint(path, {**step.model.state(), **extra})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one that training can go on from.

    Raises:
        InputError: It cannot be read, or is of a model alone.
    """
    content = read_gaussian_checkpoint(path)
    wanted = ("run_state", "optimizer_state_dict", "scheduler_state_dict", "objective_state_dict", "train_config")
    lacking = [key for key in wanted if not isinstance(content.get(key), dict)]
    if lacking:
        remedy = "Resume from a checkpoint_epoch_N.pt, or give this model with --model_path to train on from it."
        raise InputError(f"lacks {', '.join(lacking)}.", path=path, remedy=remedy)
    return content


def require_same_run(
    content: Mapping[str, Any], settings: Mapping[str, Any], data_sha256: str, path: Path
) -> list[str]:
    """Refuse to go on with another model or other data.

    Returns:
        The other settings that have changed, in words.

    Raises:
        InputError: They differ.
    """
    before: Mapping[str, Any] = content["train_config"]
    changed = [key for key in settings if key not in PLACE_SETTINGS and before.get(key) != settings[key]]
    fixed = [key for key in changed if key in MODEL_SETTINGS]
    if fixed:
        key = fixed[0]
        raise InputError(
            f"was trained with {before.get(key)!r}, not {settings[key]!r}.",
            path=path,
            field=key,
            remedy="Give the same settings, or leave --resume out to start anew in another --output_dir.",
        )
    if content.get("data_sha256") != data_sha256:
        remedy = "Give the same pairs, or the model with --model_path to train on other ones."
        raise InputError("was trained on other pairs.", path=path, field="train_data", remedy=remedy)
    return [f"{key} {before.get(key)} -> {settings[key]}" for key in changed]


def take_state(content: Mapping[str, Any], step: EncoderStep, path: Path) -> EncoderRunState:
    """Put a step where a checkpoint was, its model aside.

    Raises:
        InputError: It does not fit.
    """
    try:
        own = [{key: group[key] for key in ("weight_decay",)} for group in step.optimizer.param_groups]
        step.optimizer.load_state_dict(content["optimizer_state_dict"])
        for group, setting in zip(step.optimizer.param_groups, own, strict=True):
            group.update(setting)
        go_on(step.scheduler, content["scheduler_state_dict"])
        step.objective.load_state_dict(content["objective_state_dict"])
        if content.get("scaler_state_dict"):
            step.scaler.load_state_dict(content["scaler_state_dict"])
        return EncoderRunState(**content["run_state"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "Give a checkpoint of a run with the same settings."
        raise InputError(f"does not fit this run: {said}", path=path, remedy=remedy) from error
