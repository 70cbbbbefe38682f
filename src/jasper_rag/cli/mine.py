"""`jasper mine`: hard negatives of a dataset mined again with a trained model."""

from __future__ import annotations

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

_BLOCK = 4096
"""Questions moved at a time."""


def mine(
    run: options.RunDirectory,
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
    the moved questions. Training that is under way takes the new negatives over with `reload_negatives()`.

    Example:  jasper mine --run runs/tldr --dataset datasets/tldr
    """
    from jasper_rag.build.negative_files import write_negatives
    from jasper_rag.build.remining import remine
    from jasper_rag.explain.dataset_page_data import open_for_inspection
    from jasper_rag.file_locks import exclusive
    from jasper_rag.jasper import Jasper

    jasper = Jasper.load(run, offline=True)
    if not dataset.is_dir():
        remedy = "Give the directory of a steering dataset."
        raise InputError("there is no such directory.", path=dataset, remedy=remedy)
    with console.talking(quiet), exclusive(dataset, "mining here"):
        opened = open_for_inspection(dataset)
        _require_same_space(jasper, opened, quiet=quiet)
        settings, tensors = _settings(opened), opened.tensors
        given = _moved_pairs(jasper, opened, alpha)
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


def _moved_pairs(jasper: Jasper, opened: OpenedDataset, alpha: float | None) -> PairSet:
    import numpy as np

    from jasper_rag.build.clustering import distinct_rows
    from jasper_rag.build.pair_set import PairSet
    from jasper_rag.embedding.embedded_set import text_groups
    from jasper_rag.explain.source_topics import source_topics
    from jasper_rag.models.guard import unit

    if alpha is not None:
        jasper.model = replace(jasper.model, guard=replace(jasper.model.guard, alpha=alpha))
    sources, pairs = unit(opened.array("source_embs")), opened.array("pair_index")
    if opened.texts is not None:
        group = text_groups(opened.texts.documents)
    else:
        first, inverse, _ = distinct_rows(sources)
        group = first[inverse]
    return PairSet(
        questions=np.concatenate(list(_moved(jasper, unit(opened.array("question_embs"))))),
        sources=sources,
        pairs=pairs,
        source_cluster=source_topics(opened.tensors),
        centroids=unit(opened.array("centroid_embs")),
        positives=pairs,
        text_group=group,
    )


def _moved(jasper: Jasper, questions: Vectors) -> list[Vectors]:
    return [jasper.transform(questions[start : start + _BLOCK]) for start in range(0, len(questions), _BLOCK)]


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
