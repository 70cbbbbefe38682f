"""`jasper train-encoder`: a head, or a whole encoder, on pairs; never worse on val than the model it starts from."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jasper_rag.cli import console, encoder_options, options, processes
from jasper_rag.errors import InputError
from jasper_rag.progress import quiet as no_bars

if TYPE_CHECKING:
    from jasper_rag.training.encoder_config import EncoderTrainingConfig
    from jasper_rag.training.encoder_trainer import EncoderTrainer

LOG_FILE = "training.log"

_LOG = logging.getLogger(__name__)
_FORMAT = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")


def train_encoder(
    train_data: encoder_options.TrainData = "data/processed/train.json",
    val_data: encoder_options.ValData = None,
    output_dir: encoder_options.OutputDir = None,
    base_model: encoder_options.BaseModel = None,
    model_path: encoder_options.ModelPath = None,
    resume: encoder_options.Resume = False,
    resume_from: encoder_options.ResumeFrom = None,
    output_dim: encoder_options.OutputDim = None,
    freeze_base: encoder_options.FreezeBase = False,
    freeze_early_layers: encoder_options.FreezeEarlyLayers = False,
    no_normalize_embeddings: encoder_options.NoNormalizeEmbeddings = False,
    max_seq_length: encoder_options.MaxSeqLength = None,
    epochs: encoder_options.Epochs = 3,
    batch_size: encoder_options.BatchSize = None,
    gradient_accumulation_steps: encoder_options.GradientAccumulationSteps = 1,
    learning_rate: encoder_options.LearningRate = None,
    base_learning_rate: encoder_options.BaseLearningRate = None,
    projection_learning_rate: encoder_options.ProjectionLearningRate = None,
    weight_decay: encoder_options.WeightDecay = 0.01,
    warmup_steps: encoder_options.WarmupSteps = 100,
    loss: encoder_options.Loss = "auto",
    margin: encoder_options.Margin = None,
    temperature: encoder_options.Temperature = 0.05,
    lambda_contrastive: encoder_options.LambdaContrastive = 1.0,
    lambda_isotropy: encoder_options.LambdaIsotropy = 0.005,
    lambda_reg: encoder_options.LambdaReg = 0.1,
    lambda_predictive: encoder_options.LambdaPredictive = 0.0,
    use_predictor: encoder_options.UsePredictor = False,
    no_stopgrad: encoder_options.NoStopgrad = False,
    isotropy: encoder_options.Isotropy = "closed",
    queue_size: encoder_options.QueueSize = None,
    mixed_precision: encoder_options.MixedPrecision = False,
    gradient_checkpointing: encoder_options.GradientCheckpointing = False,
    save_interval: encoder_options.SaveInterval = 1,
    log_interval: encoder_options.LogInterval = 10,
    device: encoder_options.Device = None,
    seed: encoder_options.Seed = 42,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a Gaussian encoder: a base model and a head that starts as the identity.

    After every epoch val is searched, with the base model beside it; best_model.pt is the best of all, the model
    before training included. A run that was stopped goes on with --resume and ends as if it had not been.
    training.log in the working directory says what happened.

    Example:  jasper train-encoder --train-data train.json --val-data val.json --freeze-base --epochs 20
    """
    given = locals()
    asked = {"as_json", "quiet", "resume", "resume_from", "no_normalize_embeddings", "no_stopgrad", "output_dir"}
    settings = {name: value for name, value in given.items() if name not in asked}
    settings["normalize_embeddings"], settings["stopgrad"] = not no_normalize_embeddings, not no_stopgrad
    output_dir = output_dir or Path("checkpoints")
    with no_bars(quiet), processes.joined() as rank, _logging(rank, quiet=quiet):
        config = _config({**settings, "output_dir": str(output_dir)}, rank)
        trainer = _train(config, _checkpoint(output_dir, resume, resume_from), rank)
    if not rank:
        _show(trainer, output_dir, as_json=as_json)
        console.say(f"\nnext:\n  {_next(config)}", quiet=quiet)


def _train(config: EncoderTrainingConfig, checkpoint: Path | None, rank: int | None) -> EncoderTrainer:
    from jasper_rag.embedding.embedding_store import EmbeddingStore
    from jasper_rag.run_directory import writing
    from jasper_rag.training.encoder_run import prepare_encoder_run

    # The first process holds the folder and writes; others only compute.
    with nullcontext() if rank else writing(Path(config.output_dir)):
        trainer = prepare_encoder_run(config, resume=checkpoint, store=EmbeddingStore())
        if checkpoint is None and not rank:
            _say_what_is_replaced(Path(config.output_dir))
        if trainer.finished:
            _LOG.info("All %d epochs were done already; give more --epochs to go on.", config.epochs)
        else:
            _LOG.info("Starting training...")
        try:
            trainer.fit()
        except KeyboardInterrupt as stop:
            raise console.Interrupted("interrupted; the same command with --resume goes on.") from stop
        _LOG.info("%s", trainer.verdict())
        return trainer


def _say_what_is_replaced(folder: Path) -> None:
    from jasper_rag.training.encoder_state import BEST, latest_checkpoint

    if (folder / BEST).exists() and latest_checkpoint(folder) is not None:  # without one nothing has been trained
        _LOG.warning(
            "%s is of an earlier run and will be replaced: another --output_dir keeps it, --resume goes on with it",
            folder / BEST,
        )


def _config(settings: dict[str, Any], rank: int | None) -> EncoderTrainingConfig:
    from jasper_rag.text.pair_files import read_examples
    from jasper_rag.training.config_loading import validated
    from jasper_rag.training.encoder_config import EncoderTrainingConfig

    if rank is not None and settings["device"] != "cpu":
        import torch

        if torch.cuda.is_available():
            settings = {**settings, "device": f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"}
    config = validated(EncoderTrainingConfig, settings)
    # What can be refused at once comes first: models take seconds to import.
    for path in filter(None, (config.train_data, config.val_data)):
        if not Path(path).exists():
            read_examples(path)  # says what to do
    options.require_checkpoint(config.model_path, "Give best_model.pt of a training run.")
    if config.device is not None:
        from jasper_rag.embedding.device import usable_device

        usable_device(config.device)
    return config


def _checkpoint(output_dir: Path, resume: bool, resume_from: Path | None) -> Path | None:
    if resume and resume_from is not None:
        raise InputError(
            "--resume and --resume_from name different checkpoints.",
            remedy="Give --resume alone to go on from the last one in --output_dir.",
        )
    if resume_from is not None or not resume:
        options.require_checkpoint(
            resume_from, "Give a checkpoint_epoch_N.pt, or --resume for the last one in --output_dir."
        )
        return resume_from
    from jasper_rag.training.encoder_state import latest_checkpoint

    found = latest_checkpoint(output_dir)
    if found is None:
        _LOG.info("No checkpoint in %s yet: starting anew", output_dir)
    return found


def _show(trainer: EncoderTrainer, output_dir: Path, *, as_json: bool) -> None:
    if as_json:
        from jasper_rag.training.encoder_state import BEST, CONFIG, FINAL

        files = {name: str(output_dir / name) for name in (BEST, FINAL, CONFIG)}
        console.put_json({**trainer.state.plain(), "verdict": trainer.verdict(), "files": files})
    else:
        print(trainer.verdict())


def _next(config: EncoderTrainingConfig) -> str:
    """The command that measures the best model, on the test that was prepared beside the pairs if there is one."""
    from jasper_rag.pair_preparation import TEST
    from jasper_rag.training.encoder_state import BEST

    prepared = Path(config.train_data).parent / TEST
    test = shlex.quote(str(prepared)) if prepared.is_file() else "TEST_EVAL_JSON_OR_BEIR_FOLDER"
    best = shlex.quote(str(Path(config.output_dir) / BEST))
    return f"{console.call_of('evaluate-encoder')} --model_path {best} --test_data {test}"


@contextmanager
def _logging(rank: int | None, *, quiet: bool) -> Iterator[None]:
    """Say everything on stderr and in training.log; of several processes the first one talks."""
    logger = logging.getLogger("jasper_rag")
    level = logger.level
    handlers: list[logging.Handler] = []
    if not rank:
        handlers.append(logging.FileHandler(LOG_FILE, encoding="utf-8"))
        handlers.append(logging.StreamHandler())
        handlers[1].setLevel(logging.WARNING if quiet else logging.INFO)
    for handler in handlers:
        handler.setFormatter(_FORMAT)
        logger.addHandler(handler)
    logger.setLevel(logging.WARNING if rank else logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
