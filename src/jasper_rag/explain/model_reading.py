"""One way to read three kinds of predictor: prediction, routing, parts and atypicality, without touching the model.

decomposed         w from its router;  p = coarse + fine;  atypicality |fine|
plain, routed      w from the router;  coarse = w C,  fine = p - coarse;  atypicality |fine|
plain              w = softmax(cos(p, c_k) / 0.05);  no parts;  atypicality min_k |p - c_k|
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.models.subspace_router import SubspaceRouter

Predictor = SubspacePredictor | DecomposedJASPERPredictor | JASPERPredictor

PROXY_TEMPERATURE = 0.05
"""Divides cosines where there is no router, as where topics are offered for a search (`models/topics.py`). At 1, 64
subspaces would share the weight almost evenly, whatever the question."""

_SAME_CENTROIDS = 1e-4

_Module = TypeVar("_Module", bound=nn.Module)


class Reading(NamedTuple):
    """What a model says about B questions, with the steering it was given.

    Args:
        prediction: [B, D].
        routing: Probabilities of the subspaces, [B, K].
        coarse: w C, [B, D]; None for a plain predictor without a router.
        fine: prediction - coarse, [B, D]; None likewise.
        atypicality: [B].
    """

    prediction: Tensor
    routing: Tensor
    coarse: Tensor | None
    fine: Tensor | None
    atypicality: Tensor


class ModelReader:
    """Reads a model in evaluation mode, without noise, dropout or gradient, and leaves the caller's as it is.

    It holds a second set of modules over the same weights: mode, hooks and latents are its own, the numbers are the
    caller's. On another device it holds a copy, of the weights as they are now. Move or replace weights of the model
    before, not after.

    Args:
        model: The predictor.
        centroids: [K, D]; None takes those of a `SubspacePredictor`.
        router: Its probabilities replace those of the model.
        device: None reads where the model is.

    Raises:
        ValueError: K or D differ, or a `SubspacePredictor` has other centroids.
    """

    def __init__(
        self,
        model: Predictor,
        centroids: Tensor | None,
        router: SubspaceRouter | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        own = model.centroids if isinstance(model, SubspacePredictor) else None
        self.centroids = _checked_centroids(model, centroids, own)
        held = next((each.device for each in (*model.parameters(), *model.buffers())), self.centroids.device)
        self.device = held if device is None else torch.empty(0, device=device).device
        self.centroids = self.centroids.detach().to(self.device, torch.float32)
        inner = model.decomposed if isinstance(model, SubspacePredictor) else model
        self._model = _second(inner, self.device)
        self._router = None if router is None else _second(router, self.device)
        routers = [router] if router is not None else []
        routers += [inner.router] if isinstance(inner, DecomposedJASPERPredictor) else []
        for each in routers:
            each.check_centroids(self.centroids)

    @property
    def num_subspaces(self) -> int:
        """K."""
        return len(self.centroids)

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._model.embedding_dim

    @torch.no_grad()
    def read(self, questions: Tensor, steering: Tensor | None = None) -> Reading:
        """Read [B, D] questions with [B, D] steering; None is zero steering."""
        if isinstance(self._model, DecomposedJASPERPredictor):
            return self._decomposed(self._model, questions, steering)
        prediction = self._model(questions, steering)
        if self._router is None:
            cosines = functional.normalize(prediction, dim=-1) @ functional.normalize(self.centroids, dim=-1).T
            routing = functional.softmax(cosines / PROXY_TEMPERATURE, dim=-1)
            return Reading(prediction, routing, None, None, torch.cdist(prediction, self.centroids).amin(dim=-1))
        routing = self._routed(self._router, questions, steering)
        coarse = routing @ self.centroids
        fine = prediction - coarse
        return Reading(prediction, routing, coarse, fine, torch.linalg.vector_norm(fine, dim=-1))

    def _decomposed(self, model: DecomposedJASPERPredictor, questions: Tensor, steering: Tensor | None) -> Reading:
        parts = model.decompose(questions, steering, self.centroids, training=False)
        if self._router is None:
            routing = model.router.probabilities(parts.concept_logits)
        else:
            routing = self._routed(self._router, questions, steering)
        coarse, fine = parts.coarse, parts.fine
        if model.config.normalize_output:  # so that the two still sum to the prediction
            length = torch.linalg.vector_norm(coarse + fine, dim=-1, keepdim=True).clamp_min(1e-12)
            coarse, fine = coarse / length, fine / length
        return Reading(parts.prediction, routing, coarse, fine, parts.atypicality)

    def _routed(self, router: SubspaceRouter, questions: Tensor, steering: Tensor | None) -> Tensor:
        return router.probabilities(router(questions, steering, training=False, centroids=self.centroids)[1])


def divergence(weights: Tensor, reference: Tensor) -> Tensor:
    """KL(weights || reference) in nats over the last axis, float64; 0 where they are equal."""
    first, second = weights.double(), reference.double().clamp_min(torch.finfo(torch.float32).tiny)
    found: Tensor = (torch.special.xlogy(first, first) - torch.special.xlogy(first, second)).sum(dim=-1).clamp_min(0.0)
    return found


def _second(module: _Module, device: torch.device) -> _Module:
    """The same modules once more, in evaluation mode; over the same tensors where these are on the device."""
    tensors = (*module.parameters(), *module.buffers())
    if any(each.device != device for each in tensors):
        return copy.deepcopy(module).to(device).eval()
    return copy.deepcopy(module, {id(each): each for each in tensors}).eval()


def _checked_centroids(model: Predictor, given: Tensor | None, own: Tensor | None) -> Tensor:
    if given is None:
        if own is None:
            raise ValueError(f"a {type(model).__name__} needs centroids [K, {model.embedding_dim}], got None.")
        return own
    if given.ndim != 2 or given.shape[1] != model.embedding_dim or len(given) == 0:
        raise ValueError(f"centroids {list(given.shape)} for a predictor of width {model.embedding_dim}.")
    if not bool(torch.isfinite(given).all()):
        raise ValueError(f"{int((~torch.isfinite(given)).any(dim=1).sum())} of {len(given)} centroids are not finite.")
    if own is not None:
        if own.shape != given.shape:
            raise ValueError(f"centroids {list(given.shape)} for a predictor with centroids {list(own.shape)}.")
        apart = float((own - given.to(own)).abs().max())
        if apart > _SAME_CENTROIDS:
            raise ValueError(
                f"centroids differ by up to {apart:.3g} from those of the predictor; pass None or the same."
            )
    return given
