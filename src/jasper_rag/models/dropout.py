"""Dropout whose masks cost a quarter of the random numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """`nn.Dropout` that draws 16 bits for an element on a CPU, where drawing masks is a tenth of a training step.

    There p is rounded to a multiple of 2^-16; kept elements are scaled by 1 / (1 - p) for that p. On other devices and
    in compiled graphs it is torch's own. Masks come from torch's default generator.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The input [...] with elements set to 0 in training mode; itself otherwise."""
        if not self.training or self.p == 0.0:
            return input
        dropped = round(self.p * _LEVELS)
        if input.device.type != "cpu" or self.inplace or torch.compiler.is_compiling() or not 0 < dropped < _LEVELS:
            return functional.dropout(input, self.p, True, self.inplace)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)
        kept = (bits >= dropped - _LEVELS // 2).to(input.dtype)
        return input * kept.mul_(_LEVELS / (_LEVELS - dropped))
