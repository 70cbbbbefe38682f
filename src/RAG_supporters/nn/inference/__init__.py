"""Re-exports of `jasper_rag.explain`."""

from __future__ import annotations

from jasper_rag.explain.xai_interface import XAIInterface as XAIInterface
