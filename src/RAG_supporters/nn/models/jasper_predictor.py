"""Re-exports of `jasper_rag.models.jasper_predictor`."""

from __future__ import annotations

from jasper_rag.models.jasper_predictor import JASPERPredictor as JASPERPredictor
from jasper_rag.models.jasper_predictor import JEPAPredictor as JEPAPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig as JASPERPredictorConfig
