"""Re-exports of `jasper_rag.losses`."""

from __future__ import annotations

from jasper_rag.losses.jasper_losses import CentroidLoss as CentroidLoss
from jasper_rag.losses.jasper_losses import ContrastiveLoss as ContrastiveLoss
from jasper_rag.losses.jasper_losses import JASPERLoss as JASPERLoss
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss as JASPERMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import JEPALoss as JEPALoss
from jasper_rag.losses.jasper_losses import JEPAMultiObjectiveLoss as JEPAMultiObjectiveLoss
from jasper_rag.losses.jasper_losses import VICRegLoss as VICRegLoss
