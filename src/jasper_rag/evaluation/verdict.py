"""What the figures mean, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

SIGNIFICANT = 0.05


def verdict(
    systems: Mapping[str, Mapping[str, float | None]], alpha: float, questions: int, openness: float = 1.0
) -> str:
    """One sentence on what ships, against the question alone, from the figures of `Comparison.to_metrics`.

    Args:
        systems: System key -> figures; "plain" and "jasper" are read, and "hybrid" where there is BM25.
        alpha: The guard's blend; 0 means that the plain encoder ships.
        questions: How many were compared.
        openness: Of the corpus gate; 0 means that the corpus is unlike the one trained on.
    """
    plain, jasper = _ndcg(systems, "plain"), _ndcg(systems, "jasper")
    search = f"; search with BM25 beside it reaches {_ndcg(systems, 'hybrid'):.3f}" if "hybrid" in systems else ""
    where = f"nDCG@10 over {questions:,} questions"
    if alpha == 0.0:
        return f"The guard ships the plain encoder ({plain:.3f} {where}): training gave no sure gain on dev{search}."
    if openness == 0.0:
        why = "these documents are unlike those trained on"
        return f"The guard ships the plain encoder ({plain:.3f} {where}): {why}{search}."
    p_value = systems["jasper"].get("p_value")
    change = f"{plain:.3f} to {jasper:.3f} {where}"
    if p_value is None or p_value >= SIGNIFICANT:
        chance = "" if p_value is None else f" (p = {p_value:.2g})"
        return f"JASPER moves retrieval from {change}, a difference that may be chance{chance}{search}."
    direction = "better" if jasper > plain else "WORSE"
    return f"JASPER retrieves {direction} than the question alone: from {change} (p = {p_value:.2g}){search}."


def _ndcg(systems: Mapping[str, Mapping[str, float | None]], key: str) -> float:
    value = systems[key]["ndcg@10"]
    if value is None:
        raise ValueError(f"system {key!r} has no nDCG@10.")
    return value
