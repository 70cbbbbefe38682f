"""`jasper mine`: hard negatives of a dataset mined again with a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jasper_rag.cli import console, options
from jasper_rag.cli.tables import put_table
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.build.negative_config import NegativeConfig
    from jasper_rag.build.pair_set import PairSet
    from jasper_rag.build.remining import Remined
    from jasper_rag.embedding.vectors import Vectors
    from jasper_rag.explain.dataset_page_data import OpenedDataset
    from jasper_rag.jasper import Jasper

    Move = Callable[[Vectors], Vectors]

_BLOCK = 4096
"""Questions moved at a time."""


def mine(
    run: Annotated[
        Path,
        typer.Option("--run", help="Run directory of `jasper fit` or `jasper train`, or a checkpoint of the latter."),
    ],
    dataset: Annotated[Path, typer.Option("--dataset", help="Dataset directory whose negatives are replaced.")],
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", min=0.0, max=1.0, help="How far the model may move a question. [default: the model's]"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of the random tiers. [default: the dataset's]")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Mine the hard negatives again, from where a trained model moves the questions.

    What fooled the plain encoder may not fool the model, and other sources do: the similar tier and the margin follow
    the moved questions. The model may be one that is still being trained (then its best checkpoint counts): every
    `reload_negatives_every_n_epochs` the training takes the new negatives over.

    Example:  jasper mine --run runs/tldr --dataset datasets/tldr
    """
    from jasper_rag.build.negative_files import write_negatives
    from jasper_rag.build.remining import remine
    from jasper_rag.explain.dataset_page_data import open_for_inspection
    from jasper_rag.file_locks import exclusive
    from jasper_rag.jasper import Jasper

    checkpoint = _checkpoint_of(run)
    jasper = Jasper.load(run, offline=True) if checkpoint is None else None
    if not dataset.is_dir():
        remedy = "Give the directory of a steering dataset."
        raise InputError("there is no such directory.", path=dataset, remedy=remedy)
    with console.talking(quiet), exclusive(dataset, "mining here"):
        opened = open_for_inspection(dataset)
        if jasper is not None:
            _require_same_space(jasper, opened, quiet=quiet)
        move = _as_shipped(jasper, alpha) if jasper is not None else _as_trained(checkpoint or run, opened, alpha)
        settings, tensors = _settings(opened), opened.tensors
        given = _moved_pairs(move, opened)
        splits = {name: rows.numpy() for name, rows in tensors.splits.items()}
        old = opened.array("hard_negatives"), opened.array("negative_tiers")
        found = remine(given, splits, *old, settings, tensors.config.random_seed if seed is None else seed)
        write_negatives(found.negatives, dataset, _suffix(dataset))
    _put_changes(found, as_json=as_json)


def _require_same_space(jasper: Jasper, opened: OpenedDataset, *, quiet: bool) -> None:
    """Refuse a model of another encoder than that of the dataset; where one is unknown only the length is compared."""
    from jasper_rag import dataset_layout as layout
    from jasper_rag.embedding.encoder_identity import EncoderIdentity
    from jasper_rag.encoder_choice import GIVEN_VECTORS

    remedy = "Give a run that was fitted with the dataset's encoder, or build the dataset with the run's."
    dimension, model = opened.tensors.config.embedding_dim, jasper.model
    if model.vectors.dimension != dimension:
        problem = f"its vectors have {dimension} dimensions, those of the run {model.vectors.dimension}."
        raise InputError(problem, path=opened.tensors.root, remedy=remedy)
    kept = opened.tensors.config.encoder or opened.report.get(layout.ENCODER_KEY)
    if not isinstance(kept, dict) or model.identity.name == GIVEN_VECTORS:
        console.say("the encoder of one of them is not known: only the length of vectors was compared", quiet=quiet)
        return
    difference = EncoderIdentity.from_json(kept).mismatch(model.identity)
    if difference is not None:
        raise InputError(f"the run has another encoder: {difference}", path=opened.tensors.root, remedy=remedy)


def _settings(opened: OpenedDataset) -> NegativeConfig:
    """Settings of the build; where they are not kept, the shares of the tiers as they are."""
    import numpy as np
    from pydantic import ValidationError

    from jasper_rag.build.negative_config import NegativeConfig

    count = opened.tensors.config.n_neg
    built: Any = opened.tensors.settings.get("build") or opened.report.get("build")
    kept = built.get("negatives") if isinstance(built, dict) else None
    if kept is None:
        shares = np.bincount(opened.array("negative_tiers").ravel(), minlength=5)[1:5].tolist()
        return NegativeConfig(n_neg=count, tier_proportions=tuple(shares))
    try:
        return NegativeConfig.model_validate({**kept, "n_neg": count})
    except (ValidationError, TypeError) as error:
        problem = "the settings of its negatives cannot be read."
        raise InputError(
            problem, path=opened.tensors.root, field="build.negatives", remedy="Build it again."
        ) from error


def _checkpoint_of(run: Path) -> Path | None:
    """The checkpoint that is meant: the file itself, or the best one of a training that has left no model yet."""
    if run.suffix == ".pt":
        return run
    best = run / "checkpoints" / "best.pt"
    return best if best.is_file() and not (run / "model").exists() else None


def _as_shipped(jasper: Jasper, alpha: float | None) -> Move:
    if alpha is not None:
        jasper.model = replace(jasper.model, guard=replace(jasper.model.guard, alpha=alpha))
    return jasper.transform


def _as_trained(checkpoint: Path, opened: OpenedDataset, alpha: float | None) -> Move:
    """Questions as a checkpoint of `jasper train` moves them, without a gate: a training under way has none."""
    from jasper_rag.models.guard import Guard
    from jasper_rag.models.jasper_predictor import JASPERPredictor
    from jasper_rag.training.checkpointing import read_checkpoint
    from jasper_rag.training.predictor_training import predict
    from jasper_rag.training.run_config import load_run_config

    config = load_run_config(checkpoint.absolute().parent.parent / "config.yaml").model
    found, dimension = read_checkpoint(checkpoint), opened.tensors.config.embedding_dim
    if config.embedding_dim != dimension:
        problem = f"its vectors have {dimension} dimensions, those of the run {config.embedding_dim}."
        remedy = "Give a run that was trained on this dataset."
        raise InputError(problem, path=opened.tensors.root, remedy=remedy)
    model = JASPERPredictor(config)
    try:
        model.load_state_dict(found["model_state_dict"])
    except RuntimeError as error:
        remedy = "Give a checkpoint that lies in the run directory it was written to."
        raise InputError("is not of the model in config.yaml.", path=checkpoint, remedy=remedy) from error
    guard = Guard(1.0 if alpha is None else alpha)
    return lambda questions: guard.blend(questions, predict(model.eval(), questions))


def _moved_pairs(move: Move, opened: OpenedDataset) -> PairSet:
    import numpy as np

    from jasper_rag.build.clustering import distinct_rows
    from jasper_rag.build.pair_set import PairSet
    from jasper_rag.embedding.embedded_set import text_groups
    from jasper_rag.explain.source_topics import source_topics
    from jasper_rag.models.guard import unit

    sources, pairs = unit(opened.array("source_embs")), opened.array("pair_index")
    if opened.texts is not None:
        group = text_groups(opened.texts.documents)
    else:
        first, inverse, _ = distinct_rows(sources)
        group = first[inverse]
    return PairSet(
        questions=np.concatenate(_moved(move, unit(opened.array("question_embs")))),
        sources=sources,
        pairs=pairs,
        source_cluster=source_topics(opened.tensors),
        centroids=unit(opened.array("centroid_embs")),
        positives=pairs,
        text_group=group,
    )


def _moved(move: Move, questions: Vectors) -> list[Vectors]:
    return [move(questions[start : start + _BLOCK]) for start in range(0, len(questions), _BLOCK)]


def _suffix(dataset: Path) -> Literal[".safetensors", ".pt"]:
    """The format in which the directory keeps its negatives; beside `dataset.h5`, that of the original project."""
    from jasper_rag.data.storage.tensor_files import TensorFiles

    kept = TensorFiles(dataset).find("hard_negatives")
    return ".safetensors" if kept is not None and kept.suffix == ".safetensors" else ".pt"


def _put_changes(found: Remined, *, as_json: bool) -> None:
    from jasper_rag.explain.dataset_page_data import TIER_NAMES

    if as_json:
        console.put_json({"tiers": [{"name": TIER_NAMES[change.tier], **asdict(change)} for change in found.changes]})
        return
    rows = [
        (
            TIER_NAMES[change.tier],
            f"{change.after:,}",
            f"{change.changed:,}",
            "" if change.cosine_before is None else f"{change.cosine_before:.3f}",
            "" if change.cosine_after is None else f"{change.cosine_after:.3f}",
        )
        for change in found.changes
    ]
    put_table(("tier", "negatives", "changed", "mean cosine before", "after"), rows)
