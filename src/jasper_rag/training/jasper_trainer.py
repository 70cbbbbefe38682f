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

from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.progress import progress_bar
from jasper_rag.training.batch_source import BatchSource, dataset_of, grouped, source_of
from jasper_rag.training.best_model import BestModel
from jasper_rag.training.checkpointing import BEST, FINAL
from jasper_rag.training.epoch_report import EpochReport
from jasper_rag.training.health import HealthMonitor, require_finite
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig
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

    Same seed, same numbers, on a CPU with the same number of threads, however often the run was killed and resumed:
    it has its own state of torch's generators. Under `torchrun` the first process writes.

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
        objective: Makes the objective of what `Objective` is made of; another one may look at more than predictions.

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
        objective: Callable[..., Objective] = Objective,
    ) -> None:
        self.config = config if isinstance(config, JASPERTrainerConfig) else JASPERTrainerConfig.from_dict(config)
        self.device = torch.device(self.config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.ema_encoder = model.to(self.device), ema_encoder.to(self.device)
        self.loss_fn, self.optimizer, self.scheduler = loss_fn.to(self.device), optimizer, scheduler
        self.monitor = monitor
        self.history: list[Metrics] = []
        self._evaluated = evaluated or (lambda trained: trained)
        self._source: BatchSource = source_of(train_loader, loss, self.device, self.config.seed)
        self._dataset = dataset_of(train_loader)
        made = objective(loss_fn, ema_encoder, self._source, target, loss.negatives if loss else "sources", loss)
        self._step = TrainStep(model, ema_encoder, made, optimizer, scheduler, self.config, self.device)
        self._validation = Validation(made, val_loader, loss, validation, self.device)
        self.after_epoch: Callable[[int, nn.Module], None] | None = None
        """Called with every finished epoch and the model as it is evaluated, by the process that writes."""
        self._best = BestModel(self._validation.usable(self.config.best_metric), self.config.early_stopping_patience)
        clusters = None if self._source.centroids is None else len(self._source.centroids)
        self._report = EpochReport(HealthMonitor(clusters, variance_scaled=loss is None or loss.vicreg_scale), monitor)
        self._state = TrainerState(self.config.seed, self.device, learning_rate=self._step.rate)
        self._parts = TrainedParts(
            *(model, ema_encoder, optimizer, scheduler, self._step.scaler, self._state, self._best, self.history),
            config=self.config.model_dump(mode="json"),
            objective=made,
        )
        self._steps_per_epoch = -(-len(self._source) // self.config.gradient_accumulation_steps)
        self._planned = self._steps_of(self.config.num_epochs)
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
        self._planned = self._steps_of(epochs)
        if self._state.epoch + 1 >= epochs or self._finished():
            why = ", and patience is at its end" if self._out_of_patience() else ""
            _LOG.info("nothing left to train: %d of %d epochs are done%s", self._state.epoch + 1, epochs, why)
            return self.history
        if self.global_step == 0:
            self._consider(self.validate(prefix="val/"), epoch=-1)
        with progress_bar(self._planned, "training", "step") as bar:
            bar.update(self.global_step)
            for epoch in range(self._state.epoch + 1, epochs):
                self._run_epoch(epoch, bar, last=epoch + 1 == epochs)
                if self._finished():
                    break
        if self.config.checkpoint_dir is not None:
            metrics = self.history[-1] if self.history else {}
            self.save_checkpoint(Path(self.config.checkpoint_dir) / FINAL, self._state.epoch, metrics)
        return self.history

    def _run_epoch(self, epoch: int, bar: Any, *, last: bool) -> None:
        started, config = time.perf_counter(), self.config
        losses = self.train_epoch(epoch, bar)
        row: Metrics = {"epoch": epoch, "step": self.global_step, **self._train_metrics(losses)}
        row["epoch_time_s"] = time.perf_counter() - started
        every = config.validate_every_n_epochs
        # An epoch cut short by a last step or by patience is over as well.
        due = every > 0 and ((epoch + 1) % every == 0 or last or self._finished())
        if due:
            row |= self.validate(prefix="val/")
        if every or config.validate_every_n_steps is None:
            self.history.append(row)
            self._report(epoch, row)
            self._consider(row, epoch)
            bar.set_postfix_str(self._validation.summary(row))
        saved = config.save_every_n_epochs > 0 and (epoch + 1) % config.save_every_n_epochs == 0
        if saved and config.checkpoint_dir is not None and is_first():
            self._parts.save_periodic(config.checkpoint_dir, epoch, row, config.keep_last_n_checkpoints)
        if self.after_epoch is not None and is_first():
            self.after_epoch(epoch, self._evaluated(self.model))

    def train_epoch(self, epoch: int, bar: Any = None) -> Metrics:
        """One pass over the train split, or what a checkpoint left of it; mean losses, by name.

        Args:
            epoch: From 0.
            bar: Progress of `fit`, whose limits hold then; None: the pass goes to its end.

        Raises:
            TrainingDiverged: A loss is NaN or infinite, or a weight.
        """
        config, state = self.config, self._state
        self._begin(epoch)
        sums = state.epoch_sums
        batches = self._source.epoch(epoch, state.step_in_epoch * config.gradient_accumulation_steps)
        with state.randomness():
            for group in grouped(batches, config.gradient_accumulation_steps):
                found = self._step(group, state.global_step, self._planned)
                state.global_step += 1
                state.step_in_epoch += 1
                state.learning_rate = self._step.rate
                size = sum(len(batch["question_emb"]) for batch in group)
                sums.add(found, size)
                self._step.stop_if_diverged(found, sums, state.global_step)
                if config.validate_every_n_steps is not None:
                    state.interval_sums.add(found, size)
                    if state.global_step % config.validate_every_n_steps == 0:
                        self._row_within(epoch)
                if bar is not None:
                    bar.update(1)
                    if self._finished():
                        break
        means = sums.means()
        require_finite(means, f"epoch {epoch}")
        self._step.require_finite_weights(f"epoch {epoch}")
        state.finish_epoch(epoch)
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
        epoch, metrics = self._parts.load(path)
        self._report.restore(self.history)
        return epoch, metrics

    def load_best(self) -> int | None:
        """Put the best weights into `model` and `ema_encoder`: of `best.pt`, or of this `fit` where it does not exist.

        Returns:
            Epoch of `best.pt`, -1 for the untrained model; None where it does not exist.
        """
        return self._parts.load_best(self.config.checkpoint_dir)

    def _steps_of(self, epochs: int) -> int:
        steps = epochs * self._steps_per_epoch
        return min(steps, self.config.max_steps or steps)

    def _begin(self, epoch: int) -> None:
        self.model.train()
        self.ema_encoder.train()
        self._state.begin_epoch(epoch)
        self._step.objective.begin_epoch(epoch)
        every = self.config.reload_negatives_every_n_epochs
        due = every and epoch and epoch % every == 0 and not self._state.step_in_epoch
        if due and hasattr(self._dataset, "reload_negatives"):
            self._dataset.reload_negatives()

    def _train_metrics(self, means: Metrics) -> Metrics:
        found = means | {"lr": self._state.learning_rate} | self._step.figures(self.global_step, self._planned)
        return {f"train/{name}": value for name, value in found.items()}

    def _row_within(self, epoch: int) -> None:
        state = self._state
        with state.outside():
            means = state.interval_sums.taken()
            require_finite(means, f"step {self.global_step:,}")
            self._step.require_finite_weights(f"step {self.global_step:,}")
            row: Metrics = {"step": self.global_step, "epoch": epoch + state.step_in_epoch / self._steps_per_epoch}
            row |= self._train_metrics(means) | self.validate(prefix="val/")
            self.history.append(row)
            self._consider(row, epoch - 1)

    def _consider(self, row: Metrics, epoch: int) -> None:
        if not any(name.startswith("val/") for name in row):
            return  # not validated
        self._state.best_val_loss = min(self._state.best_val_loss, row.get("val/total", float("inf")))
        better = self._best.improves(row, self.global_step, self._evaluated(self.model), self.ema_encoder)
        if better and self.config.checkpoint_dir is not None:
            self.save_checkpoint(Path(self.config.checkpoint_dir) / BEST, epoch, row)

    def _finished(self) -> bool:
        return self.global_step >= self._planned or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        return self._best.exhausted(self.global_step / max(self._planned, 1))


JEPATrainer = JASPERTrainer
