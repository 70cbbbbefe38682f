"""Re-exports of `jasper_rag.models.subspace_router`."""

from __future__ import annotations

from jasper_rag.models.subspace_router import SubspaceRouter as SubspaceRouter
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig as SubspaceRouterConfig
