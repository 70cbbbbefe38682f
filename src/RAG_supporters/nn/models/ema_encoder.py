"""Re-exports of `jasper_rag.models.ema_encoder`."""

from __future__ import annotations

from jasper_rag.models.ema_encoder import EMAEncoder as EMAEncoder
