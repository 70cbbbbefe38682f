"""Re-exports of `jasper_rag.losses.routing_losses`."""

from __future__ import annotations

from jasper_rag.losses.routing_losses import DisentanglementLoss as DisentanglementLoss
from jasper_rag.losses.routing_losses import EntropyRegularization as EntropyRegularization
from jasper_rag.losses.routing_losses import ResidualPenalty as ResidualPenalty
from jasper_rag.losses.routing_losses import RoutingLoss as RoutingLoss
from jasper_rag.losses.routing_objective import RoutingObjective as RoutingObjective
