"""The loop over epochs of encoder training: train, measure on val, keep the best, write what a run needs to go on."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar
from jasper_rag.training import encoder_report
from jasper_rag.training.encoder_batches import PairTable, Rows, epoch_batches
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_features import FeatureSource
from jasper_rag.training.encoder_state import (
    BEST,
    FINAL,
    EncoderRunState,
    checkpoint_path,
    save_checkpoint,
    save_model,
    saved_epoch,
)
from jasper_rag.training.encoder_step import EncoderStep, means
from jasper_rag.training.encoder_validation import Validation
from jasper_rag.training.processes import is_first, several

_LOG = logging.getLogger(__name__)


class EncoderTrainer:
    """Trains a Gaussian encoder. Under `torchrun` the first process measures and writes.

    Args:
        step: Model, loss, optimiser.
        source: The base's vectors of batches.
        table: The pairs.
        batches: See `run_batches`.
        config: Resolved.
        state: Where the run stands.
        validation: Chooses the best model; None: the last one is the best.
        data_sha256: Of all pairs.
    """

    def __init__(
        self,
        step: EncoderStep,
        source: FeatureSource,
        table: PairTable,
        config: EncoderTrainingConfig,
        state: EncoderRunState,
        *,
        validation: Validation | None,
        data_sha256: str,
    ) -> None:
        self.step, self.model, self.config, self.state = step, step.model, config, state
        self.folder = Path(config.output_dir)
        self._source, self._table = source, table
        self._validation, self._data_sha256 = validation, data_sha256
        self._settings: Mapping[str, Any] = config.model_dump()
        self._steps_made = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.state.epoch >= self.config.epochs

    def fit(self) -> EncoderRunState:
        """Train to the last epoch.

        Raises:
            InputError: The loss is no longer a finite number.
        """
        first = is_first()
        if first:
            self._begin()
        self.model.train()
        self.step.objective.train()
        while not self.finished:
            epoch = self.state.epoch + 1
            encoder_report.say_epoch(epoch, self.config.epochs)
            with epoch_randomness(self.config.seed, epoch, self.model.device):
                figures = self._train_epoch(epoch)
            self.state.epoch = epoch
            encoder_report.say_training(figures, self.step.rates)
            if first:
                self._end_epoch(figures)
        if first:
            save_model(self.folder / FINAL, self.model, self.state, self._settings)
            _LOG.info("Training complete! Final model saved to %s", self.folder / FINAL)
        return self.state

    def verdict(self) -> str:
        """What came of it, in words."""
        return encoder_report.verdict(self.state, trained_on=self.config.model_path)

    def _begin(self) -> None:
        """The model before training is the first candidate for the best."""
        path = self.folder / BEST
        if self.state.best_epoch is None:
            measured = self._measure()
            self.state.improved_by(measured.get("ndcg@10"))
            encoder_report.say_start(measured, self.state)
        elif self.state.best_epoch != self.state.epoch:
            if saved_epoch(path) == self.state.best_epoch:
                return
            # It is gone, or of epochs that are about to be made again: the best starts anew at this model.
            self.state.best_ndcg = None
            self.state.improved_by(self._measure().get("ndcg@10"))
        # Also where a run was stopped between the checkpoint of its best epoch and the best model.
        save_model(path, self.model, self.state, self._settings)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        batches = run_batches(self._table, self.config, epoch)
        found: list[dict[str, Tensor]] = []
        with progress_bar(len(batches), f"Epoch {epoch}", "step") as bar:
            for number, batch in enumerate(self._source.batches(batches), start=1):
                found.append(self.step(batch))
                bar.update()
                if number % self.config.log_interval == 0 or number == len(batches):
                    latest = means(found[-self.config.log_interval :])
                    self._require_finite(latest, epoch, number)
                    shown = {
                        "loss": latest["total"],
                        "pos_dist": latest["pos_distance"],
                        "std": latest["embedding_std"],
                    }
                    bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()})
                    encoder_report.say_step(epoch, number, len(batches), shown, self.step.rates)
        return means(found)

    def _end_epoch(self, figures: Mapping[str, float]) -> None:
        measured = self._measure()
        rates = {f"lr_{name}": rate for name, rate in self.step.rates.items()}
        self.state.history.append(
            {"epoch": float(self.state.epoch), **{f"train_{k}": v for k, v in figures.items()}, **measured, **rates}
        )
        if measured:
            encoder_report.say_validation(measured, self.state)
        better = self.state.improved_by(measured.get("ndcg@10"))
        saves = self.state.epoch % self.config.save_interval == 0 or self.finished
        path = checkpoint_path(self.folder, self.state.epoch)
        if saves:
            # First: from it the best model can be written again, should the run be stopped between the two.
            save_checkpoint(path, self.step, self.state, self._settings, self._data_sha256)
        if better:
            save_model(self.folder / BEST, self.model, self.state, self._settings)
            _LOG.info("  Saved best model to %s", self.folder / BEST)
        if saves:
            _LOG.info("  Saved checkpoint to %s", path)

    def _measure(self) -> dict[str, float]:
        return {} if self._validation is None else self._validation.measure(self.step)

    @staticmethod
    def _require_finite(figures: Mapping[str, float], epoch: int, step: int) -> None:
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        if wrong:
            raise InputError(
                f"the loss is not a finite number any more ({', '.join(wrong)}) at epoch {epoch}, step {step}.",
                remedy="Lower --learning_rate (and --projection_learning_rate), or raise --warmup_steps; the "
                "checkpoints of earlier epochs are whole.",
            )


def run_batches(table: PairTable, config: EncoderTrainingConfig, epoch: int) -> list[Rows]:
    """The pairs of each optimiser step of this process in one epoch; every epoch has as many steps."""
    assert config.batch_size is not None
    rank, ranks = processes()
    return epoch_batches(
        len(table),
        config.batch_size * config.gradient_accumulation_steps,
        config.seed,
        epoch,
        lengths=None if config.freeze_base else table.lengths(),
        rank=rank,
        ranks=ranks,
    )


def processes() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if not several():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextmanager
def epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Within, torch's generators give numbers that depend on seed, epoch and process alone; without, the caller's."""
    number = int(np.random.SeedSequence([seed, epoch, processes()[0]]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(number)
        for each in devices:
            torch.cuda.default_generators[each.index or 0].manual_seed(number)
        yield
