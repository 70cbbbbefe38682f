"""Means of losses over many steps, kept on the device: reading a number costs a synchronisation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from jasper_rag.training.processes import summed


class MetricSums:
    """Weighted sums of named scalars.

    Args:
        device: Where the scalars live.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Add detached scalars that stand for `weight` samples."""
        for name, value in values.items():
            scaled = value.detach().to(torch.float32) * weight
            if name in self._sums:
                self._sums[name] += scaled
                self._weights[name] += weight
            else:
                self._sums[name], self._weights[name] = scaled.clone(), weight

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._weights = {}, {}

    def means(self) -> dict[str, float]:
        """Mean of each; one transfer for all of them, summed over all processes where there are several."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        weights = torch.tensor([self._weights[name] for name in names], dtype=torch.float64)
        table = torch.stack([torch.stack([self._sums[name] for name in names]).to("cpu", torch.float64), weights])
        table = summed(table, self._device)
        means = (table[0] / table[1]).tolist()
        return dict(zip(names, means, strict=True))

    def taken(self) -> dict[str, float]:
        """The means; then begin anew."""
        found = self.means()
        self.clear()
        return found

    def state_dict(self) -> dict[str, list[float]]:
        """Name -> [sum, weight]; plain numbers."""
        totals = torch.stack(list(self._sums.values())).tolist() if self._sums else []
        return {name: [total, self._weights[name]] for name, total in zip(self._sums, totals, strict=True)}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Go on from sums kept earlier."""
        self._sums = {name: torch.tensor(total, device=self._device) for name, (total, _) in state.items()}
        self._weights = {name: weight for name, (_, weight) in state.items()}
