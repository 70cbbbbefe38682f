"""Re-exports of `jasper_rag.models`."""

from __future__ import annotations

from jasper_rag.models.ema_encoder import EMAEncoder as EMAEncoder
from jasper_rag.models.jasper_predictor import JASPERPredictor as JASPERPredictor
from jasper_rag.models.jasper_predictor import JEPAPredictor as JEPAPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig as JASPERPredictorConfig
