"""Gradients of a loss over more texts than fit into memory at once: GradCache (Gao et al. 2021, arXiv:2101.06983).

1. Every part is run without a graph; the state of the random numbers before it is kept.
2. The loss of all outputs is taken, and its gradient with respect to them.
3. Every part is run again with a graph, from the same random numbers, and the gradient is sent through it.

The result is the gradient of the loss over all texts together, dropout included, at the memory of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Part = Callable[[], Tensor]


class CachedOutputs:
    """Outputs of several parts, to take a loss of.

    Args:
        parts: Each gives the rows of some texts; called once, or twice where there are several.
        devices: CUDA devices whose random numbers the parts draw, beside the CPU's.

    Attributes:
        outputs: One tensor per part. Take a loss of them, go backward from it, then call `backward`.
    """

    def __init__(self, parts: Sequence[Part], devices: Sequence[torch.device] = ()) -> None:
        self._parts, self._devices = tuple(parts), tuple(device for device in devices if device.type == "cuda")
        self._states: list[list[Tensor]] = []
        self.outputs: list[Tensor] = []

    def forward(self, *, keep_graph: bool) -> list[Tensor]:
        """Run all parts.

        Args:
            keep_graph: Where memory allows for it: nothing is run twice, and `backward` has nothing to do.
        """
        if keep_graph:
            self.outputs = [part() for part in self._parts]
            return self.outputs
        with torch.no_grad():
            for part in self._parts:
                self._states.append(self._numbers())
                self.outputs.append(part())
        self.outputs = [output.detach().requires_grad_() for output in self.outputs]
        return self.outputs

    def backward(self) -> None:
        """Send the gradients that the outputs have got on into the parts' parameters."""
        if not self._states:
            return
        after = self._numbers()
        for part, state, output in zip(self._parts, self._states, self.outputs, strict=True):
            if output.grad is None:
                continue
            self._restore(state)
            torch.autograd.backward(part(), output.grad)
        self._restore(after)

    def _numbers(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]

    def _restore(self, state: Sequence[Tensor]) -> None:
        torch.set_rng_state(state[0])
        for device, numbers in zip(self._devices, state[1:], strict=True):
            torch.cuda.set_rng_state(numbers, device)
