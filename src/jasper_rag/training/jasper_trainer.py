"""`JASPERTrainer`: epochs, validation by retrieval, checkpoints; killed and resumed, it ends as if never stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.progress import progress_bar
from jasper_rag.training.batch_source import BatchSource, grouped, source_of
from jasper_rag.training.best_model import BestModel
from jasper_rag.training.checkpointing import periodic_path, rotate
from jasper_rag.training.health import HealthMonitor, require_finite
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig
from jasper_rag.training.metric_sums import MetricSums
from jasper_rag.training.monitoring import TrainingMonitor
from jasper_rag.training.objective import Objective, Target
from jasper_rag.training.processes import is_first, share_parameters
from jasper_rag.training.retrieval_validation import RetrievalValidation
from jasper_rag.training.train_step import TrainStep
from jasper_rag.training.trainer_state import TrainedParts, TrainerState
from jasper_rag.training.validation import Validation

_LOG = logging.getLogger(__name__)

Metrics = dict[str, float]
Evaluated = Callable[[nn.Module], nn.Module]


class JASPERTrainer:
    """Trains a predictor, and the source encoder where that learns, by several objectives; chooses by retrieval.

    Same seed, same numbers, on a CPU with the same number of threads, however often the run was killed and resumed.
    Dropout draws from a generator state of the trainer's own. Under `torchrun` the first process writes.

    Args:
        config: Of the loop; a mapping of its keys will do.
        model: Takes (question [B, D], steering [B, D] or None).
        ema_encoder: Maps sources where it learns.
        loss_fn: Called with (predicted, ema_target, negatives, centroids, cluster ids); see `Objective`.
        optimizer: Of the model's parameters, and of the online encoder's where that learns.
        train_loader: Of `create_loader`, any other loader of batches with the documented keys, or a `BatchSource`.
        val_loader: The same for validation losses; None: there are none.
        scheduler: Stepped after every optimiser step; None: a constant learning rate.
        monitor: Takes the metrics of every epoch.
        loss: Stages and kind of negatives; None: the weights of `loss_fn` throughout.
        target: See `Objective`.
        validation: Ranks held-out questions; None: the val loader's dataset, where it is a steering dataset.
        evaluated: Makes of the trained model the one that is validated and kept; None: itself.

    Raises:
        ValueError: `config` has an unknown key or a value that is not allowed.
    """

    def __init__(
        self,
        config: JASPERTrainerConfig | Mapping[str, Any],
        model: nn.Module,
        ema_encoder: EMAEncoder,
        loss_fn: nn.Module,
        optimizer: Optimizer,
        train_loader: Any,
        val_loader: Any = None,
        scheduler: LRScheduler | None = None,
        monitor: TrainingMonitor | None = None,
        *,
        loss: LossConfig | None = None,
        target: Target | None = None,
        validation: RetrievalValidation | None = None,
        evaluated: Evaluated | None = None,
    ) -> None:
        self.config = config if isinstance(config, JASPERTrainerConfig) else JASPERTrainerConfig.from_dict(config)
        self.device = torch.device(self.config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.ema_encoder = model.to(self.device), ema_encoder.to(self.device)
        self.loss_fn, self.optimizer, self.scheduler = loss_fn.to(self.device), optimizer, scheduler
        self.monitor = monitor
        self.history: list[Metrics] = []
        self._loss = loss
        self._evaluated = evaluated or (lambda trained: trained)
        self._source: BatchSource = source_of(train_loader, loss, self.device)
        self._train_loader = train_loader
        objective = Objective(
            *(loss_fn, ema_encoder, self._source, target), "sources" if loss is None else loss.negatives
        )
        self._step = TrainStep(model, ema_encoder, objective, optimizer, scheduler, self.config, self.device)
        self._validation = Validation(objective, val_loader, loss, validation, self.device)
        self._best = BestModel(self._validation.usable(self.config.best_metric), self.config.early_stopping_patience)
        clusters = None if self._source.centroids is None else len(self._source.centroids)
        self._health = HealthMonitor(clusters, variance_scaled=loss is None or loss.vicreg_scale)
        self._state = TrainerState(self.config.seed)
        self._parts = TrainedParts(
            *(model, ema_encoder, optimizer, scheduler, self._step.scaler, self._state, self._best, self.history),
            config=self.config.model_dump(mode="json"),
        )
        self._since_row = MetricSums(self.device)
        self._steps_per_epoch = -(-len(self._source) // self.config.gradient_accumulation_steps)
        self._max_steps = 0
        share_parameters([self.model, self.ema_encoder])

    @property
    def global_step(self) -> int:
        """Optimiser steps made so far."""
        return self._state.global_step

    @property
    def best_val_loss(self) -> float:
        """Lowest `val/total` so far; infinite before the first."""
        return self._state.best_val_loss

    @property
    def best_metric(self) -> tuple[str, float | None]:
        """The metric that chooses the best model, and its best value."""
        return self._best.metric, self._best.value

    def fit(self, num_epochs: int | None = None) -> list[Metrics]:
        """Train up to and with epoch `num_epochs - 1`, going on where a loaded checkpoint stopped.

        The untrained model is validated first: it is the first of the candidates for `best.pt`.

        Args:
            num_epochs: Epochs of the whole run; None: those of the config.

        Returns:
            Metrics of every epoch (and of every validation within one), those before a resume included.

        Raises:
            TrainingDiverged: A loss is NaN or infinite; checkpoints written before are sound.
            ValueError: `best_metric` is not measured.
        """
        epochs = self.config.num_epochs if num_epochs is None else num_epochs
        self._max_steps = min(epochs * self._steps_per_epoch, self.config.max_steps or epochs * self._steps_per_epoch)
        if self._state.epoch + 1 >= epochs or self.global_step >= self._max_steps:
            _LOG.info("nothing left to train: %d of %d epochs are done", self._state.epoch + 1, epochs)
            return self.history
        if self.global_step == 0:
            self._consider(self.validate(prefix="val/"), epoch=-1)
        with progress_bar(self._max_steps, "training", "step") as bar:
            bar.update(self.global_step)
            for epoch in range(self._state.epoch + 1, epochs):
                self._run_epoch(epoch, bar, last=epoch + 1 == epochs)
                if self._finished():
                    break
        if self.config.checkpoint_dir is not None:
            self.save_checkpoint(Path(self.config.checkpoint_dir) / "final.pt", self._state.epoch, self.history[-1])
        return self.history

    def _run_epoch(self, epoch: int, bar: Any, *, last: bool) -> None:
        started, config = time.perf_counter(), self.config
        losses = self.train_epoch(epoch, bar)
        row: Metrics = {"epoch": epoch, "step": self.global_step}
        row |= self._train_metrics(losses)
        row["epoch_time_s"] = time.perf_counter() - started
        self._state.finish_epoch(epoch)
        # An epoch cut short by a last step or by patience is over as well.
        due = config.validate_every_n_epochs and (epoch + 1) % config.validate_every_n_epochs == 0
        if due or (last and config.validate_every_n_epochs):
            row |= self.validate(prefix="val/")
            self.history.append(row)
            self._consider(row, epoch)
            bar.set_postfix_str(self._validation.summary(row))
        elif config.validate_every_n_steps is None:
            self.history.append(row)
        if config.validate_every_n_steps is None or due:
            self._report(epoch, row)
        saved = config.save_every_n_epochs and (epoch + 1) % config.save_every_n_epochs == 0
        if saved and config.checkpoint_dir is not None:
            folder = Path(config.checkpoint_dir)
            self.save_checkpoint(periodic_path(folder, epoch), epoch, row)
            if is_first():
                rotate(folder, config.keep_last_n_checkpoints)

    def train_epoch(self, epoch: int, bar: Any = None) -> Metrics:
        """One pass over the train split, or what a checkpoint left of it; mean losses, by name.

        Args:
            epoch: From 0.
            bar: A progress bar to move on.

        Raises:
            TrainingDiverged: A loss is NaN or infinite.
        """
        config, state, bar = self.config, self._state, progress_bar(None, "epoch") if bar is None else bar
        self._begin(epoch)
        sums = MetricSums(self.device)
        sums.load_state_dict(state.partial_sums)
        batches = self._source.epoch(epoch, state.step_in_epoch * config.gradient_accumulation_steps)
        with state.randomness(self.device):
            for group in grouped(batches, config.gradient_accumulation_steps):
                found = self._step(group, state.global_step, self._max_steps)
                state.global_step += 1
                state.step_in_epoch += 1
                size = sum(len(batch["question_emb"]) for batch in group)
                sums.add(found, size)
                bar.update(1)
                if state.global_step % config.log_every_n_steps == 0:
                    require_finite(sums.means(), f"step {state.global_step:,}")
                if config.validate_every_n_steps is not None:
                    self._since_row.add(found, size)
                    if state.global_step % config.validate_every_n_steps == 0:
                        state.partial_sums = sums.state_dict()
                        self._row_within(epoch, bar)
                if self._finished():
                    break
        means = sums.means()
        require_finite(means, f"epoch {epoch}")
        return means

    def validate(self, prefix: str = "") -> Metrics:
        """Losses on the val loader and ranking metrics of held-out questions, by name."""
        found = self._validation(self._evaluated(self.model), self.ema_encoder)
        return {f"{prefix}{name}": value for name, value in found.items()}

    def save_checkpoint(self, path: str | Path, epoch: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Write everything a run needs to go on; tensors and plain values only. Under `torchrun` the first one writes.

        Args:
            path: Of the file, which is replaced whole.
            epoch: Last completed epoch; -1 before the first.
            metrics: Of that epoch.

        Raises:
            OSError: It cannot be written.
        """
        if is_first():
            self._parts.save(path, epoch, metrics or {})

    def load_checkpoint(self, path: str | Path) -> tuple[int, Metrics]:
        """Take over a checkpoint; `fit` then goes on after its last completed epoch.

        Returns:
            That epoch, and its metrics, e.g. `metrics["val/total"]`.

        Raises:
            InputError: There is none, it is damaged, or it is of another model.
        """
        epoch, metrics = self._parts.load(path, self.device)
        epochs = [row for row in self.history if "epoch_time_s" in row]
        self._health.restore(epochs)
        if self.monitor is not None:
            self.monitor.restore(epochs)
        return epoch, metrics

    def load_best(self) -> None:
        """Put the best model of this `fit` into `model`; the model stays as it is where none was validated."""
        if self._best.weights is not None:
            self.model.load_state_dict(self._best.weights)

    def _begin(self, epoch: int) -> None:
        self.model.train()
        self.ema_encoder.train()
        if self._loss is not None and isinstance(self.loss_fn, JASPERMultiObjectiveLoss):
            self.loss_fn.set_weights(self._loss.weights_at(epoch))
        every, dataset = self.config.reload_negatives_every_n_epochs, getattr(self._train_loader, "dataset_obj", None)
        if every and epoch and epoch % every == 0 and dataset is not None and self._state.step_in_epoch == 0:
            dataset.reload_negatives()

    def _train_metrics(self, means: Metrics) -> Metrics:
        found = means | self._step.rates(self.global_step, self._max_steps)
        return {f"train/{name}": value for name, value in found.items()}

    def _row_within(self, epoch: int, bar: Any) -> None:
        """Validate in the middle of an epoch."""
        with self._state.outside():
            means = self._since_row.means()
            require_finite(means, f"step {self.global_step:,}")
            self._since_row = MetricSums(self.device)
            row: Metrics = {
                "step": self.global_step,
                "epoch": epoch + self._state.step_in_epoch / self._steps_per_epoch,
            }
            row |= self._train_metrics(means) | self.validate(prefix="val/")
            self.history.append(row)
            self._consider(row, epoch - 1)
        bar.set_postfix_str(self._validation.summary(row))

    def _consider(self, row: Metrics, epoch: int) -> None:
        """Keep the model if it is the best so far."""
        self._state.best_val_loss = min(self._state.best_val_loss, row.get("val/total", float("inf")))
        better = self._best.improves(row, self.global_step, self._evaluated(self.model))
        if better and self.config.checkpoint_dir is not None:
            self.save_checkpoint(Path(self.config.checkpoint_dir) / "best.pt", epoch, row)

    def _finished(self) -> bool:
        progress = self.global_step / max(self._max_steps, 1)
        return self.global_step >= self._max_steps > 0 or self._best.exhausted(progress)

    def _report(self, epoch: int, row: Metrics) -> None:
        for warning in self._health.check(row):
            _LOG.warning("%s", warning)
        _LOG.info("epoch %d: %s", epoch, self._validation.summary(row))
        if self.monitor is not None and is_first():
            self.monitor.log_metrics(epoch, {name: value for name, value in row.items() if name != "epoch"})
