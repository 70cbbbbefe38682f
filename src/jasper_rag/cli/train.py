"""`jasper train`: a predictor on a steering dataset, chosen by retrieval on its val split."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, options, processes
from jasper_rag.errors import InputError

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from jasper_rag.fitting.dataset_fitting import DatasetSource
    from jasper_rag.fitting.split_explanations import SplitExplanations
    from jasper_rag.jasper import Jasper
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
            help="Folder to write. [default: runs/jasper, or runs/subspace]",
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Checkpoint to go on from.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs in all. [default: of the config]")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:N or mps. [default: a GPU if any]")
    ] = None,
    subspace: Annotated[
        bool, typer.Option("--subspace", help="Train a router over the dataset's clusters too; explain by it.")
    ] = False,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: Annotated[bool, typer.Option("--debug", help="Say more, and trace numbers that are not finite.")] = False,
) -> None:
    """Train a predictor on a steering dataset; write checkpoints, plots and, as `jasper fit` does, model and report.

    The val split is searched after every epoch, with the plain question beside it: checkpoints/best.pt is the model
    that retrieves best. It is blended with the plain question as far as val gains by it, compared on the test split
    and can be searched. A run that was stopped goes on with --resume and ends as if it had not been.

    Example:  jasper train --config configs/jasper_base.yaml --dataset-dir datasets/tldr --output-dir runs/tldr
    """
    from jasper_rag.training.run_config import load_run_config
    from jasper_rag.training.subspace_config import load_subspace_config

    overrides = {
        "dataset.path": None if dataset_dir is None else str(dataset_dir),
        "training.num_epochs": epochs,
        "training.device": device,
        "training.seed": seed,
    }
    settings = load_subspace_config(config, overrides) if subspace else load_run_config(config, overrides)
    if settings.dataset.path is None:
        remedy = "Give --dataset-dir, or dataset.path in the settings; `jasper build` makes one."
        raise InputError("no dataset to train on.", field="dataset-dir", remedy=remedy)
    output_dir = output_dir or Path("runs/subspace" if subspace else "runs/jasper")
    with console.talking(quiet), processes.joined() as rank, _tracing(debug), _saying_how_to_go_on(output_dir, resume):
        trained = _train(settings, output_dir, resume, rank)
    if not rank:
        _show(trained, output_dir, as_json=as_json, quiet=quiet)


@dataclass(frozen=True)
class _Trained:
    """What a run ends with: the content of metrics.json and, where one could be made, the model."""

    metrics: dict[str, Any]
    jasper: Jasper | None = None


def _train(settings: RunConfig, output_dir: Path, resume: Path | None, rank: int | None) -> _Trained:
    from jasper_rag.run_directory import writing
    from jasper_rag.training.health import TrainingDiverged
    from jasper_rag.yaml_files import write_yaml

    settings = settings if rank is None else _on_own_device(settings, rank)
    assert settings.dataset.path is not None
    # The first process holds the folder and writes; others only compute.
    with nullcontext() if rank else writing(output_dir):
        run = _prepared(settings, settings.dataset.path, output_dir, distributed=rank is not None)
        source = None if rank else _model_source(run)
        explanations = None if rank else _explanations(run, source, output_dir)
        if resume is not None:
            epoch, _ = run.trainer.load_checkpoint(resume)
            _LOG.info("going on after epoch %d of %s", epoch, resume)
        if not rank:
            write_yaml(output_dir / "config.yaml", run.config.to_dict())
        started = time.process_time()
        try:
            run.trainer.fit()
        except TrainingDiverged as error:
            raise InputError(str(error), path=output_dir, remedy=error.remedy) from error
        if rank:
            return _Trained({})
        if explanations is not None:
            explanations.write()
        seconds = time.process_time() - started
        run.monitor.export_history()
        run.monitor.plot_losses()
        run.monitor.plot_steering_distribution()
        run.monitor.finish()
        return _finished(run, source, output_dir, seconds)


def _prepared(settings: RunConfig, dataset: str, output_dir: Path, *, distributed: bool) -> TrainingRun:
    from jasper_rag.training.subspace_config import SubspaceRunConfig
    from jasper_rag.training.subspace_run import prepare_subspace_run
    from jasper_rag.training.training_run import prepare_run

    if isinstance(settings, SubspaceRunConfig):
        return prepare_subspace_run(settings, dataset, output_dir, distributed=distributed)
    return prepare_run(settings, dataset, output_dir, distributed=distributed)


def _explanations(run: TrainingRun, source: DatasetSource | None, output_dir: Path) -> SplitExplanations | None:
    """What explains the val split while it trains; None where nothing is explained."""
    from jasper_rag.fitting.split_explanations import SplitExplanations
    from jasper_rag.training.subspace_config import SubspaceRunConfig

    if not isinstance(run.config, SubspaceRunConfig) or not run.config.xai.save_val_xai:
        return None
    explanations = SplitExplanations(run, None if source is None else source.texts, output_dir)
    run.trainer.after_epoch = explanations
    return explanations


def _model_source(run: TrainingRun) -> DatasetSource | None:
    """What the model will need, read before the training, which takes longer; None where there will be no model."""
    from jasper_rag.fitting.dataset_fitting import read_source, why_no_model

    why = why_no_model(run)
    if why is None:
        return read_source(run)
    _LOG.warning("no model/ will be written, checkpoints only: %s.", why)
    return None


def _finished(run: TrainingRun, source: DatasetSource | None, output_dir: Path, cpu_seconds: float) -> _Trained:
    """Measure the best model and write what comes of it."""
    from jasper_rag.atomic_files import write_json
    from jasper_rag.fitting.dataset_fitting import fit_dataset
    from jasper_rag.jasper import MODEL_FOLDER, Jasper
    from jasper_rag.run_directory import METRICS, write_trained

    measured = _measured(run)
    if source is None:
        write_json(output_dir / METRICS, measured)
        if (output_dir / MODEL_FOLDER).is_dir():
            _LOG.warning("%s is of an earlier run and stays as it is.", output_dir / MODEL_FOLDER)
        return _Trained(measured)
    record, model = fit_dataset(run, source, cpu_seconds)
    jasper = Jasper(model, record=record)
    # The comparison names its split itself.
    kept = {key: value for key, value in measured.items() if key != "split"}
    return _Trained(write_trained(jasper, record, output_dir, kept), jasper)


def _measured(run: TrainingRun) -> dict[str, Any]:
    """Figures of the best model on the test split, or on val where there is none."""
    from jasper_rag.models.subspace_predictor import SubspacePredictor
    from jasper_rag.training.subspace_run import routing_accuracy

    epoch = run.trainer.load_best()
    split = "test" if "test" in run.datasets else run.config.dataset.split_val
    name, value = run.trainer.best_metric
    model = run.trainer.model
    routing = {"routing": routing_accuracy(model, run.datasets[split])} if isinstance(model, SubspacePredictor) else {}
    return {
        "split": split,
        "best_epoch": epoch,
        "best_metric": name,
        "best_value": value,
        "steering_variants": run.measure(split),
        **routing,
    }


def _show(trained: _Trained, output_dir: Path, *, as_json: bool, quiet: bool) -> None:
    from jasper_rag.cli.fit import show_results

    metrics = trained.metrics
    if not as_json:
        console.put_steering({"split": metrics["split"], **metrics["steering_variants"]})
    if "routing" in metrics and not as_json:
        console.say("\n" + _routing_line(metrics["routing"]), quiet=quiet)
    if metrics["best_epoch"] is not None:
        when = f"after epoch {metrics['best_epoch']}" if metrics["best_epoch"] >= 0 else "before training"
        console.say(f"\n{metrics['best_metric']} {metrics['best_value']:.4f} {when}", quiet=quiet)
    console.say(f"checkpoints: {output_dir / 'checkpoints'}   plots: {output_dir / 'loss_curves.png'}", quiet=quiet)
    if trained.jasper is not None:
        show_results(trained.jasper, metrics, output_dir, as_json=as_json, quiet=quiet)
    elif as_json:
        console.put_json(metrics)


def _routing_line(found: dict[str, float]) -> str:
    return (
        f"router, no steering: right topic {found['accuracy@1']:.3f}, among its first three {found['accuracy@3']:.3f} "
        f"(nearest centroid {found['nearest_centroid@1']:.3f}, {found['nearest_centroid@3']:.3f})"
    )


@contextmanager
def _saying_how_to_go_on(output_dir: Path, resume: Path | None) -> Iterator[None]:
    """On Ctrl-C say which checkpoint to resume from: the last one that this run wrote, else the one it came from."""
    folder = output_dir / "checkpoints"
    before = _written(folder)
    try:
        yield
    except KeyboardInterrupt as stop:
        new = {path: when for path, when in _written(folder).items() if before.get(path) != when}
        # Of two written at once, best.pt is the less: it knows nothing of what came after it.
        last = max(new, key=lambda path: (new[path], path.name != "best.pt"), default=resume)
        if last is None:
            raise console.Interrupted(
                "interrupted before the first checkpoint; the same command starts anew."
            ) from stop
        how = f"give the same command with --resume {shlex.quote(str(last))} to go on from there"
        raise console.Interrupted(f"interrupted; {how}.") from stop


def _written(folder: Path) -> dict[Path, int]:
    """When each checkpoint was written, in nanoseconds."""
    found: dict[Path, int] = {}
    for path in folder.glob("*.pt"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


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
