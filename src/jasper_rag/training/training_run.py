"""From settings and a dataset directory to a trainer, its figures and its files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jasper_rag.data.loader import SteeringLoader, create_loader
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.training.jasper_trainer import JASPERTrainer
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig
from jasper_rag.training.monitoring import TrainingMonitor
from jasper_rag.training.objective import Objective
from jasper_rag.training.processes import is_first
from jasper_rag.training.retrieval_validation import DatasetRetrieval
from jasper_rag.training.run_config import RunConfig
from jasper_rag.training.schedules import build_scheduler
from jasper_rag.training.validation import predict, projection

_LOG = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class ModelKind:
    """What is trained, and by what.

    Args:
        of_dataset: (section, key, value) of settings that only the dataset knows.
        model: From settings and train split to the model; its weights draw from torch's CPU generator.
        objective: From settings and model to what makes the `Objective`; see `JASPERTrainer`.
    """

    of_dataset: Callable[[JASPERSteeringDataset], tuple[tuple[str, str, int], ...]]
    model: Callable[[Any, JASPERSteeringDataset], nn.Module]
    objective: Callable[[Any, Any], Callable[..., Objective]]


def of_dataset(dataset: JASPERSteeringDataset) -> tuple[tuple[str, str, int], ...]:
    """Width and negatives, which cannot be otherwise."""
    return ("model", "embedding_dim", dataset.embedding_dim), ("dataset", "n_neg", dataset.n_neg)


PLAIN = ModelKind(of_dataset, lambda config, _: JASPERPredictor(config.model), lambda *_: Objective)
"""A `JASPERPredictor`."""


@dataclass(frozen=True)
class TrainingRun:
    """A trainer and what it was made of.

    Args:
        config: Every setting, with those of the dataset filled in.
        trainer: Ready for `fit`.
        monitor: Its monitor.
        datasets: By split, over one copy of the tensors.
    """

    config: RunConfig
    trainer: JASPERTrainer
    monitor: TrainingMonitor
    datasets: dict[str, JASPERSteeringDataset]

    def measure(self, split: str) -> dict[str, float]:
        """Ranking metrics of the model as it stands on a split, by steering variant."""
        retrieval = DatasetRetrieval(self.datasets[split])
        model, ema = self.trainer.model.eval(), self.trainer.ema_encoder.eval()
        project = projection(ema) if self.config.ema.target == "ema" else None
        with torch.no_grad():
            return retrieval(lambda questions, steering: predict(model, questions, steering), project)


def prepare_run(
    config: RunConfig,
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    distributed: bool = False,
    kind: ModelKind = PLAIN,
) -> TrainingRun:
    """Open the dataset and make the trainer.

    Args:
        config: Settings.
        dataset_dir: A steering dataset.
        output_dir: Of checkpoints, metrics, plots.
        distributed: Share the train split among the processes of `torch.distributed`.
        kind: What is trained.

    Raises:
        InputError: The dataset is not sound or lacks a split, or the device cannot be used.
    """
    device = config.training.device or ("cuda" if torch.cuda.is_available() else "cpu")
    datasets = JASPERSteeringDataset.create_combined_splits(dataset_dir, device=device, seed=config.training.seed)
    for split in (config.dataset.split_train, config.dataset.split_val):
        if split not in datasets:
            remedy = f"Set dataset.split_train and dataset.split_val to some of: {', '.join(datasets)}."
            raise InputError(f"this dataset has no {split} split", path=dataset_dir, remedy=remedy)
    trained_on = datasets[config.dataset.split_train]
    config = _fitted_to(config, kind.of_dataset(trained_on))
    for dataset in datasets.values():
        dataset.curriculum = config.steering.schedule(dataset.tensors.config)
    model, ema = _modules(config, kind, trained_on)
    modules: list[nn.Module] = [model, *([ema.online_encoder] if config.ema.target == "ema" else [])]
    optimizer = torch.optim.AdamW(
        [parameter for module in modules for parameter in module.to(device).parameters()],
        lr=config.training.learning_rate,
        weight_decay=config.training.weight_decay,
        fused=torch.device(device).type in ("cpu", "cuda"),
    )
    train = _loader(trained_on, config, distributed=distributed)
    val = _loader(datasets[config.dataset.split_val], config, distributed=False)
    per_epoch = -(-len(train) // config.training.gradient_accumulation_steps)
    steps = min(
        per_epoch * config.training.num_epochs, config.training.max_steps or per_epoch * config.training.num_epochs
    )
    sent = config.monitoring
    monitor = TrainingMonitor(
        output_dir, sent.use_wandb and is_first(), sent.wandb_project, sent.wandb_name, wandb_config=config
    )
    settings = {
        **config.training.model_dump(),
        "device": str(device),
        "checkpoint_dir": str(Path(output_dir) / CHECKPOINTS),
    }
    trainer = JASPERTrainer(
        JASPERTrainerConfig.from_dict(settings),
        model,
        ema,
        JASPERMultiObjectiveLoss.from_config(config.loss),
        optimizer,
        train,
        val,
        build_scheduler(optimizer, config.training, per_epoch, steps),
        monitor,
        loss=config.loss,
        target=config.ema.target,
        objective=kind.objective(config, model),
    )
    return TrainingRun(config, trainer, monitor, datasets)


def _fitted_to(config: RunConfig, known: tuple[tuple[str, str, int], ...]) -> RunConfig:
    """The settings with what the dataset knows."""
    values = config.to_dict()
    for section, key, found in known:
        given = values[section][key]
        if given not in (None, found):
            _LOG.warning(
                "%s.%s is %s in the settings, %s in the dataset; %s is used", section, key, given, found, found
            )
        values[section][key] = found
    return type(config)(**values)


def _modules(config: RunConfig, kind: ModelKind, dataset: JASPERSteeringDataset) -> tuple[nn.Module, EMAEncoder]:
    # Initial weights draw from the CPU generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.training.seed)
        model, encoder = kind.model(config, dataset), identity_encoder(config.model.embedding_dim)
    encoder.requires_grad_(config.ema.target == "ema")
    return model, EMAEncoder(encoder, config.ema.tau_min, config.ema.tau_max, config.ema.schedule)


def _loader(dataset: JASPERSteeringDataset, config: RunConfig, *, distributed: bool) -> SteeringLoader:
    # Tensors in memory are gathered by the loop itself; workers are for those that stay on disk.
    workers = config.training.num_workers if dataset.tensors.mapped else 0
    return create_loader(
        dataset,
        dataset.split,
        config.training.batch_size,
        num_workers=workers,
        distributed=distributed,
        pin_memory=config.training.pin_memory,
        balanced="cluster" if config.training.balanced_batches else None,
    )
