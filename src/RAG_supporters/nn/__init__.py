"""Re-exports of `jasper_rag.models`, `jasper_rag.losses`, `jasper_rag.training` and `jasper_rag.explain`."""

from __future__ import annotations

from jasper_rag.explain.xai_interface import XAIInterface as XAIInterface
from jasper_rag.losses.jasper_losses import CentroidLoss as CentroidLoss
from jasper_rag.losses.jasper_losses import ContrastiveLoss as ContrastiveLoss
from jasper_rag.losses.jasper_losses import JASPERLoss as JASPERLoss
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss as JASPERMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import JEPALoss as JEPALoss
from jasper_rag.losses.jasper_losses import JEPAMultiObjectiveLoss as JEPAMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import VICRegLoss as VICRegLoss
from jasper_rag.losses.routing_losses import DisentanglementLoss as DisentanglementLoss
from jasper_rag.losses.routing_losses import EntropyRegularization as EntropyRegularization
from jasper_rag.losses.routing_losses import ResidualPenalty as ResidualPenalty
from jasper_rag.losses.routing_losses import RoutingLoss as RoutingLoss
from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor as DecomposedJASPERPredictor
from jasper_rag.models.decomposed_predictor import DecomposedJEPAPredictor as DecomposedJEPAPredictor
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig as DecomposedJASPERConfig
from jasper_rag.models.ema_encoder import EMAEncoder as EMAEncoder
from jasper_rag.models.jasper_predictor import JASPERPredictor as JASPERPredictor
from jasper_rag.models.jasper_predictor import JEPAPredictor as JEPAPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig as JASPERPredictorConfig
from jasper_rag.models.subspace_router import SubspaceRouter as SubspaceRouter
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig as SubspaceRouterConfig
from jasper_rag.training.jasper_trainer import JASPERTrainer as JASPERTrainer
from jasper_rag.training.jasper_trainer import JEPATrainer as JEPATrainer
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig as JASPERTrainerConfig
from jasper_rag.training.monitoring import TrainingMonitor as TrainingMonitor
