"""The systems a run compares: their keys in `metrics.json` and what people read instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SYSTEM_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "plain": "question alone (plain encoder)",
        "bm25": "BM25",
        "rrf": "RRF: plain + BM25",
        "fusion": "weighted: plain + BM25",
        "linear_adapter": "linear adapter (LlamaIndex recipe)",
        "jasper_ungated": "JASPER, ungated",
        "jasper": "JASPER (ships)",
        "rrf_jasper": "RRF: JASPER + BM25",
        "hybrid": "JASPER + BM25, weighted (search default)",
    }
)
"""System key -> human name, in the order of every table."""

STEERING_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "zero": "no topic",
        "predicted": "the router's first topic",
        "one_click": "the right topic, where it is among the 3 offered",
        "oracle": "the right topic (upper bound: knows the answer)",
    }
)
"""Mode of steering -> what people read, in the order of every table."""
