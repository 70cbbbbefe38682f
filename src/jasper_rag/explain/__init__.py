"""Why this answer, and what a run came to: explanations and the self-contained report."""

from __future__ import annotations
