"""Settings of negative mining; free of torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class NegativeConfig(BaseModel):
    """How many negatives a pair gets, from where, and what counts as a false one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_neg: int = Field(12, ge=1, description="Negatives per pair.")
    tier_proportions: tuple[float, float, float, float] = Field(
        (0.25, 0.25, 0.25, 0.25), description="Shares of in-cluster, adjacent, similar and random negatives."
    )
    adjacent_k: int = Field(3, ge=1, description="Nearest clusters that count as adjacent.")
    margin: float | None = Field(
        0.95,
        gt=0,
        description="A candidate scoring above this share of its positive's score may be a false negative and is "
        "left out; null keeps it. The default is TopK-PercPos of NV-Retriever (arXiv:2407.15831).",
    )

    @model_validator(mode="after")
    def _shares(self) -> NegativeConfig:
        if min(self.tier_proportions) < 0 or sum(self.tier_proportions) <= 0:
            raise ValueError(f"tier_proportions {self.tier_proportions} must be at least 0, and one of them above")
        return self

    def counts(self) -> tuple[int, int, int, int]:
        """Negatives of each tier, summing to `n_neg`: shares rounded down, the rest to the largest remainders."""
        total = sum(self.tier_proportions)
        exact = [self.n_neg * share / total for share in self.tier_proportions]
        whole = [int(share) for share in exact]
        by_remainder = sorted(range(4), key=lambda tier: (whole[tier] - exact[tier], tier))
        for tier in by_remainder[: self.n_neg - sum(whole)]:
            whole[tier] += 1
        return whole[0], whole[1], whole[2], whole[3]
