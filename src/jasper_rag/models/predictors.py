"""The predictors that a model may hold, and what they have in common."""

from __future__ import annotations

from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.subspace_predictor import SubspacePredictor

Predictor = JASPERPredictor | SubspacePredictor
"""Called with (question [B, D], steering [B, D] or None)."""


def linear_paths(predictor: Predictor) -> JASPERPredictor | DecomposedJASPERPredictor | None:
    """What holds the maps of a prediction that is a linear one, [q +] q W + s V, up to its length.

    None where it is more: an MLP, or a coarse part, which only the residual path takes out of the sum again.
    """
    if predictor.config.mlp:
        return None
    if isinstance(predictor, JASPERPredictor):
        return predictor
    return predictor.decomposed if predictor.config.residual else None


def require_plain(predictor: Predictor) -> JASPERPredictor:
    """The predictor, where it is one without subspaces.

    Raises:
        ValueError: It is a `SubspacePredictor`.
    """
    if not isinstance(predictor, JASPERPredictor):
        raise ValueError(f"a plain predictor is needed, got a {type(predictor).__name__}.")
    return predictor
