"""Re-exports of `jasper_rag.models.decomposed_predictor`."""

from __future__ import annotations

from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor as DecomposedJASPERPredictor
from jasper_rag.models.decomposed_predictor import DecomposedJEPAPredictor as DecomposedJEPAPredictor
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig as DecomposedJASPERConfig
