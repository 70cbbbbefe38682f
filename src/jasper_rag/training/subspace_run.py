"""A run of the subspace model: a plain run with another model and another objective."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError
from jasper_rag.losses.routing_objective import RoutingObjective
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.training.subspace_config import SubspaceRunConfig
from jasper_rag.training.subspace_objective import SubspaceObjective
from jasper_rag.training.training_run import ModelKind, TrainingRun, of_dataset, prepare_run

_OFFERED = 3


def prepare_subspace_run(
    config: SubspaceRunConfig, dataset_dir: str | Path, output_dir: str | Path, *, distributed: bool = False
) -> TrainingRun:
    """As `prepare_run`; the model is a `SubspacePredictor` over the dataset's centroids.

    Raises:
        InputError: As `prepare_run`, or the dataset has fewer than two clusters.
    """
    return prepare_run(config, dataset_dir, output_dir, distributed=distributed, kind=SUBSPACE)


@torch.no_grad()
def routing_accuracy(model: nn.Module, dataset: JASPERSteeringDataset) -> dict[str, float]:
    """How often a router finds the topic of a pair of a split from its question alone.

    Args:
        model: A `SubspacePredictor`.
        dataset: The split; every relevant pair counts once.

    Returns:
        {"accuracy@1", "accuracy@3", "nearest_centroid@1", "nearest_centroid@3"}; the last two are the cosine with the
        centroids, untrained.
    """
    assert isinstance(model, SubspacePredictor)
    held = dataset.tensors.tensors
    rows = dataset.split_indices.to(dataset.tensors.device)
    rows = rows[held["pair_relevance"][rows] > 0]
    questions = held["question_embs"][held["pair_index"][rows, 0]].to(model.centroids)
    clusters = held["pair_cluster_id"][rows].to(model.centroids.device)
    mode = model.training
    model.eval()
    routed = model.router(questions, None, False, centroids=model.centroids)[1]
    model.train(mode)
    cosines = functional.normalize(questions, dim=1) @ functional.normalize(model.centroids, dim=1).T
    found: dict[str, float] = {}
    for name, scores in (("accuracy", routed), ("nearest_centroid", cosines)):
        hits = scores.topk(min(_OFFERED, scores.shape[1]), dim=1).indices == clusters.unsqueeze(1)
        found |= {f"{name}@1": float(hits[:, 0].float().mean()), f"{name}@3": float(hits.any(dim=1).float().mean())}
    return found


def _of_dataset(dataset: JASPERSteeringDataset) -> tuple[tuple[str, str, int], ...]:
    count = len(dataset.centroid_embs)
    if count < 2:
        remedy = "Build it with `jasper build --n-clusters 2` or more, or train without --subspace."
        problem = "this dataset has a single cluster, and a router needs at least 2"
        raise InputError(problem, path=dataset.tensors.root, remedy=remedy)
    return *of_dataset(dataset), ("router", "num_subspaces", count)


def _model(config: SubspaceRunConfig, dataset: JASPERSteeringDataset) -> SubspacePredictor:
    centroids = torch.as_tensor(dataset.centroid_embs).to("cpu", torch.float32)
    return SubspacePredictor(config.predictor(len(centroids)), functional.normalize(centroids, dim=1))


def _objective(config: SubspaceRunConfig, model: SubspacePredictor) -> partial[SubspaceObjective]:
    return partial(
        SubspaceObjective,
        model=model,
        routing=RoutingObjective(**config.routing_loss.model_dump(), num_subspaces=model.num_subspaces),
        anchor_epochs=config.router.anchor_epochs,
        freeze_router=config.router.freeze_router,
    )


SUBSPACE = ModelKind(_of_dataset, _model, _objective)
"""A `SubspacePredictor`."""
