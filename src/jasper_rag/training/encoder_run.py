"""A run of encoder training, made ready: files checked, model built or taken over, vectors of a frozen base found."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.atomic_files import require_writable, write_json
from jasper_rag.embedding.device import usable_device
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_base import enable_gradient_checkpointing, load_base
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError
from jasper_rag.models.projection_head import ProjectionHead
from jasper_rag.text.pair_files import TrainingExample, read_examples
from jasper_rag.training.cached_base import base_vectors
from jasper_rag.training.encoder_batches import PairTable, pair_table
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_features import FeatureSource, FrozenFeatures, LiveFeatures
from jasper_rag.training.encoder_report import listed_rates
from jasper_rag.training.encoder_state import (
    CONFIG,
    EncoderRunState,
    read_checkpoint,
    require_same_run,
    take_state,
)
from jasper_rag.training.encoder_step import EncoderStep, build_objective, precision
from jasper_rag.training.encoder_trainer import EncoderTrainer, epoch_randomness, run_batches
from jasper_rag.training.encoder_validation import Validation, ValidationSet, mean_ndcg, validation_set
from jasper_rag.training.processes import is_first, several, share_parameters

_LOG = logging.getLogger(__name__)

_INITIAL_DOCUMENTS = 10_000
"""Most documents that a narrower head takes its principal directions from."""


def prepare_encoder_run(
    config: EncoderTrainingConfig, *, resume: Path | None = None, store: EmbeddingStore | None = None
) -> EncoderTrainer:
    """Make a run ready; `fit` of what is returned trains.

    Args:
        config: Settings.
        resume: Checkpoint of an epoch to go on from.
        store: Where vectors of a frozen base are kept; None: nowhere.

    Raises:
        InputError: A file is missing or damaged, the base model cannot be had, or settings contradict each other.
    """
    config = config.resolved()
    device = _device(config.device)
    train = read_examples(config.train_data)
    val = () if config.val_data is None else read_examples(config.val_data)
    _LOG.info("Input files validated")
    digest = _digest(train, val)
    content = None if resume is None else read_checkpoint(resume)
    if content is not None and resume is not None:
        for change in require_same_run(content, config.model_dump(), digest, resume):
            _LOG.warning("going on with other settings: %s", change)
    _write_settings(config)
    _LOG.info("Loading datasets...")
    _LOG.info("Loaded %s training examples", f"{len(train):,}")
    if val:
        _LOG.info("Loaded %s validation examples", f"{len(val):,}")
    _LOG.info("Initializing model...")
    model = _model(config, resume, device)
    table = pair_table(train)
    data = validation_set(val, train, config.seed) if val else None
    with _first_one_first():
        run = _Preparation(config, model, table, data, store, goes_on=resume is not None).run()
    share_parameters([model])
    state = EncoderRunState(base_ndcg=run.base_ndcg)
    step = _step(config, model, table)
    if content is not None and resume is not None:
        state = take_state(content, step, resume)
        _LOG.info("Resuming after epoch %d of %s", state.epoch, resume)
    return EncoderTrainer(step, run.source(), table, config, state, validation=run.validation, data_sha256=digest)


class _Preparation:
    """What is done with the base while it does not learn yet."""

    def __init__(
        self,
        config: EncoderTrainingConfig,
        model: GaussianEmbeddingGemma,
        table: PairTable,
        data: ValidationSet | None,
        store: EmbeddingStore | None,
        *,
        goes_on: bool,
    ) -> None:
        # A run that goes on knows what the base found.
        self.measures = data is not None and is_first() and (config.freeze_base or not goes_on)
        self.config, self.model, self.table, self.data, self.store = config, model, table, data, store
        self.base_ndcg: float | None = None
        self.validation: Validation | None = None
        self._fixed: FeatureSource | None = None

    def run(self) -> _Preparation:
        """Measure the base, lay out a narrower head, look up vectors, and let the base learn where it shall."""
        model, config = self.model, self.config
        assert config.batch_size is not None
        first: tuple[Tensor, Tensor] | None = None
        if self.data is not None and self.measures:
            first = self._of(self.data.table.queries, "query"), self._of(self.data.corpus, "document")
            self.base_ndcg = self._base_figure(self.data, first)
        if config.model_path is None and model.output_dim < model.base_dim:
            documents = self.table.documents[:: max(1, len(self.table.documents) // _INITIAL_DOCUMENTS)]
            share = model.initialise_projection(self._of(documents, "document"))
            _LOG.info("%d of %d dimensions keep %.1f %% of the squared lengths", *self._widths(), 100 * share)
        if config.freeze_base:
            queries, documents_ = (
                self._of(self.table.queries, "query"),
                self._of(self.table.documents, "document"),
            )
            self._fixed = FrozenFeatures(self.table, queries, documents_, model.device)
        model.set_frozen(config.freeze_base, config.freeze_early_layers)
        if config.gradient_checkpointing and not config.freeze_base:
            enable_gradient_checkpointing(model.base)
        if self.data is not None:
            pairs = config.batch_size * config.gradient_accumulation_steps
            self.validation = Validation(self.data, self._now, pairs, frozen=config.freeze_base, first=first)
        return self

    def source(self) -> FeatureSource:
        """The base's vectors of batches."""
        if self._fixed is not None:
            return self._fixed
        assert self.config.batch_size is not None
        dtype = precision(self.config.mixed_precision, self.model.device)
        return LiveFeatures(self.model, self.table, self.config.batch_size, dtype)

    def _of(self, texts: Sequence[str], role: Role) -> Tensor:
        return base_vectors(self.model, texts, role, store=self.store)

    def _now(self, texts: Sequence[str], role: Role) -> Tensor:
        return self.model.encode_base(texts, role=role)

    def _widths(self) -> tuple[int, int]:
        return self.model.output_dim, self.model.base_dim

    def _base_figure(self, data: ValidationSet, own: tuple[Tensor, Tensor]) -> float:
        """The nDCG@10 of the base model as it comes, by cosine."""
        rows = own
        if not self.model.base_is_original:
            identity = self.model.base_identity
            base = load_base(
                identity.name, max_seq_length=identity.max_seq_length, device=str(self.model.device), offline=True
            )
            store = self.store
            kept = base.encode if store is None else lambda texts, role: store.embed(texts, base, role, f"{role} texts")
            found = kept(data.table.queries, "query"), kept(data.corpus, "document")
            rows = torch.from_numpy(found[0]), torch.from_numpy(found[1])
        queries, documents = (functional.normalize(side, dim=-1).numpy() for side in rows)
        return mean_ndcg(queries, documents, data.judgements)


def _model(config: EncoderTrainingConfig, resume: Path | None, device: torch.device) -> GaussianEmbeddingGemma:
    """The model with its base frozen, as it is before training or where it was."""
    path = resume or config.model_path
    with epoch_randomness(config.seed, 0, device):
        if path is None:
            assert config.output_dim is not None
            model = GaussianEmbeddingGemma(
                config.output_dim,
                config.base_model,
                freeze_base=True,
                normalize_embeddings=config.normalize_embeddings,
                use_predictor=config.use_predictor,
                max_seq_length=config.max_seq_length,
                device=device,
            )
        else:
            model = GaussianEmbeddingGemma.from_pretrained(
                path, config.base_model, device, output_dim=config.output_dim
            )
            _require_settings(model, config, Path(path))
            model.set_frozen(True)
            if config.use_predictor and model.predictor is None:
                model.predictor = ProjectionHead(model.output_dim, model.output_dim, scale=1.0).to(device)
    return model


def _require_settings(model: GaussianEmbeddingGemma, config: EncoderTrainingConfig, path: Path) -> None:
    length = model.base_identity.max_seq_length
    remedy = "Leave it out; the checkpoint knows it."
    if config.max_seq_length not in (None, length):
        problem = f"reads {length} tokens of a text, not {config.max_seq_length}."
        raise InputError(problem, path=path, field="max_seq_length", remedy=remedy)
    if not config.normalize_embeddings and model.normalize_embeddings:
        problem = "its head was trained on unit vectors."
        raise InputError(problem, path=path, field="no_normalize_embeddings", remedy=remedy)


def _step(config: EncoderTrainingConfig, model: GaussianEmbeddingGemma, table: PairTable) -> EncoderStep:
    per_epoch = len(run_batches(table, config, 1))
    if not per_epoch:
        raise InputError("there are fewer pairs than processes.", path=config.train_data, remedy="Start fewer.")
    steps = per_epoch * config.epochs
    dtype = precision(config.mixed_precision, model.device)
    step = EncoderStep(model, build_objective(config, model.output_dim).to(model.device), table, config, steps, dtype)
    total = sum(parameter.numel() for parameter in model.parameters())
    learns = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    _LOG.info("Total params: %s", f"{total:,}")
    _LOG.info("Trainable: %s (%.1f%%)", f"{learns:,}", 100 * learns / total)
    peaks = {group["name"]: group["initial_lr"] for group in step.optimizer.param_groups}
    _LOG.info("Learning rates (peak): %s", listed_rates(peaks))
    warmup = config.warmup(steps)
    _LOG.info("Schedule: %s optimiser steps, warm-up over %s, then a cosine to 0", f"{steps:,}", f"{warmup:,}")
    if warmup != config.warmup_steps:
        _LOG.info("--warmup_steps %d is longer than the run: cut to %d", config.warmup_steps, warmup)
    if dtype is not None:
        _LOG.info("Mixed precision training enabled (%s)", str(dtype).removeprefix("torch."))
    elif config.mixed_precision:
        _LOG.info("Mixed precision: a %s computes in float32, where it is fastest", model.device.type)
    return step


def _device(name: str | None) -> torch.device:
    device = usable_device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    _LOG.info("Using device: %s", device)
    if device.type == "cuda" and torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(device)
        _LOG.info("GPU: %s", facts.name)
        _LOG.info("GPU Memory: %.2f GB", facts.total_memory / 2**30)
    return device


def _write_settings(config: EncoderTrainingConfig) -> None:
    folder = Path(config.output_dir)
    if is_first():
        require_writable(folder)
        write_json(folder / CONFIG, config.model_dump())
        _LOG.info("Saved config to %s", folder / CONFIG)


def _digest(*splits: Sequence[TrainingExample]) -> str:
    digest = hashlib.sha256()
    for examples in splits:
        for example in examples:
            for text in (example.query, example.positive, example.negative):
                digest.update(hashlib.sha256(text.encode()).digest())
        digest.update(b"|")
    return digest.hexdigest()


@contextmanager
def _first_one_first() -> Iterator[None]:
    """The first process fills the store before the others look there."""
    if several() and not is_first():
        torch.distributed.barrier()
    yield
    if several() and is_first():
        torch.distributed.barrier()
