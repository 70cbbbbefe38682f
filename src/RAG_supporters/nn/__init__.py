"""Re-exports of `jasper_rag.models` and `jasper_rag.losses`."""

from __future__ import annotations

from jasper_rag.losses.jasper_losses import CentroidLoss as CentroidLoss
from jasper_rag.losses.jasper_losses import ContrastiveLoss as ContrastiveLoss
from jasper_rag.losses.jasper_losses import JASPERLoss as JASPERLoss
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss as JASPERMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import JEPALoss as JEPALoss
from jasper_rag.losses.jasper_losses import JEPAMultiObjectiveLoss as JEPAMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import VICRegLoss as VICRegLoss
from jasper_rag.models.ema_encoder import EMAEncoder as EMAEncoder
from jasper_rag.models.jasper_predictor import JASPERPredictor as JASPERPredictor
from jasper_rag.models.jasper_predictor import JEPAPredictor as JEPAPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig as JASPERPredictorConfig
