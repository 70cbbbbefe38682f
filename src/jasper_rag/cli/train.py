"""`jasper train`: a predictor on a steering dataset, chosen by retrieval on its val split."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from jasper_rag.training.run_config import RunConfig
    from jasper_rag.training.training_run import TrainingRun


def train(
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset-dir", help="Steering dataset, as `jasper build` writes it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of settings, e.g. configs/jasper_base.yaml.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            parser=options.named_path,
            metavar="<path>",
            help="Folder to write. [default: runs/jasper]",
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Checkpoint to go on from.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs in all. [default: of the config]")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:N or mps. [default: a GPU if any]")
    ] = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: Annotated[bool, typer.Option("--debug", help="Say more, and trace numbers that are not finite.")] = False,
) -> None:
    """Train a predictor on a steering dataset; write checkpoints, metrics and plots.

    The val split is searched after every epoch, with the plain question beside it: checkpoints/best.pt is the model
    that retrieves best. A run that was stopped goes on with --resume and ends as if it had not been.

    Example:  jasper train --config configs/jasper_base.yaml --dataset-dir datasets/tldr --output-dir runs/tldr
    """
    from jasper_rag.training.run_config import load_run_config

    overrides = {
        "dataset.path": None if dataset_dir is None else str(dataset_dir),
        "training.num_epochs": epochs,
        "training.device": device,
        "training.seed": seed,
    }
    settings = load_run_config(config, overrides)
    if settings.dataset.path is None:
        remedy = "Give --dataset-dir, or dataset.path in the settings; `jasper build` makes one."
        raise InputError("no dataset to train on.", field="dataset-dir", remedy=remedy)
    output_dir = output_dir or Path("runs/jasper")
    with console.talking(quiet), _distributed() as rank, _tracing(debug):
        metrics = _train(settings, output_dir, resume, rank)
    if not rank:
        _show(metrics, output_dir, as_json=as_json, quiet=quiet)


def _train(settings: RunConfig, output_dir: Path, resume: Path | None, rank: int | None) -> dict[str, Any]:
    from jasper_rag.atomic_files import write_json
    from jasper_rag.run_directory import writing
    from jasper_rag.training.health import TrainingDiverged
    from jasper_rag.training.training_run import prepare_run
    from jasper_rag.yaml_files import write_yaml

    settings = settings if rank is None else _on_own_device(settings, rank)
    assert settings.dataset.path is not None
    # The first process holds the folder and writes; others only compute.
    with nullcontext() if rank else writing(output_dir):
        run = prepare_run(settings, settings.dataset.path, output_dir, distributed=rank is not None)
        if resume is not None:
            epoch, _ = run.trainer.load_checkpoint(resume)
            _LOG.info("going on after epoch %d of %s", epoch, resume)
        if not rank:
            write_yaml(output_dir / "config.yaml", run.config.to_dict())
        try:
            run.trainer.fit()
        except TrainingDiverged as error:
            raise InputError(str(error), path=output_dir, remedy=error.remedy) from error
        if rank:
            return {}
        metrics = _measured(run)
        write_json(output_dir / "metrics.json", metrics)
        run.monitor.export_history()
        run.monitor.plot_losses()
        run.monitor.plot_steering_distribution()
        run.monitor.finish()
    return metrics


def _measured(run: TrainingRun) -> dict[str, Any]:
    """Figures of the best model on the test split, or on val where there is none."""
    epoch = run.trainer.load_best()
    split = "test" if "test" in run.datasets else run.config.dataset.split_val
    name, value = run.trainer.best_metric
    return {"split": split, "best_epoch": epoch, "best_metric": name, "best_value": value, **run.measure(split)}


def _show(metrics: Mapping[str, Any], output_dir: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        console.put_json(metrics)
    else:
        console.put_steering(metrics)
    if metrics["best_epoch"] is not None:
        when = f"after epoch {metrics['best_epoch']}" if metrics["best_epoch"] >= 0 else "before training"
        console.say(f"\n{metrics['best_metric']} {metrics['best_value']:.4f} {when}", quiet=quiet)
    console.say(f"checkpoints: {output_dir / 'checkpoints'}   plots: {output_dir / 'loss_curves.png'}", quiet=quiet)


@contextmanager
def _distributed() -> Iterator[int | None]:
    """Join the processes that `torchrun` started; yields this one's number, or None where it is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    import torch

    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()


def _on_own_device(settings: RunConfig, rank: int) -> RunConfig:
    """Each process of a machine has a GPU of its own, where there are some; the first one talks."""
    import torch

    if rank:
        logging.getLogger("jasper_rag").setLevel(logging.WARNING)
    if not torch.cuda.is_available() or settings.training.device == "cpu":
        return settings
    local = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    return settings.model_copy(update={"training": settings.training.model_copy(update={"device": local})})


@contextmanager
def _tracing(debug: bool) -> Iterator[None]:
    if not debug:
        yield
        return
    import torch

    logging.getLogger("jasper_rag").setLevel(logging.DEBUG)
    with torch.autograd.set_detect_anomaly(True):
        yield
