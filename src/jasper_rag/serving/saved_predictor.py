"""A predictor as a saved model holds it: settings as plain values beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.subspace_predictor import SubspacePredictor

KIND = "kind"
PLAIN, SUBSPACE = "plain", "subspace"


def predictor_description(predictor: Predictor) -> dict[str, Any]:
    """Kind and settings; the tensors are those of `state_dict()`, centroids included."""
    kind = SUBSPACE if isinstance(predictor, SubspacePredictor) else PLAIN
    return {KIND: kind, **predictor.config.model_dump()}


def predictor_of(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Predictor:
    """The predictor that a description and tensors are of, in evaluation mode; without a kind it is a plain one.

    Raises:
        ValueError: The kind or a setting is unknown, or there are no centroids.
        RuntimeError: The tensors are of another predictor.
    """
    settings = {key: value for key, value in description.items() if key != KIND}
    kind = description.get(KIND, PLAIN)
    predictor: Predictor
    if kind == PLAIN:
        predictor = JASPERPredictor(JASPERPredictorConfig(**settings))
    elif kind == SUBSPACE:
        if "centroids" not in tensors:
            raise ValueError("a predictor of subspaces without their centroids.")
        predictor = SubspacePredictor(DecomposedJASPERConfig(**settings), tensors["centroids"])
    else:
        raise ValueError(f"a predictor of kind {kind!r}; known are {PLAIN!r} and {SUBSPACE!r}.")
    predictor.load_state_dict(dict(tensors))
    return predictor.eval()
