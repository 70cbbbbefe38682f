"""What several processes of one training do together; a process on its own does nothing of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def several() -> bool:
    """Whether this process is one of a group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not several() or torch.distributed.get_rank() == 0


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace gradients by their mean over all processes; one message, as a predictor is small."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not several() or not gradients:
        return
    together = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= torch.distributed.get_world_size()
    pieces = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def share_parameters(modules: Iterable[nn.Module]) -> None:
    """Give every process the parameters and buffers of the first."""
    if several():
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, 0)


def summed(numbers: Tensor, device: torch.device) -> Tensor:
    """Sums over all processes of float64 numbers on the CPU.

    Args:
        numbers: Of any shape.
        device: Of the training; NCCL knows no CPU tensors, and GPUs of Apple no float64.
    """
    if not several():
        return numbers
    shared = numbers.to(device, torch.float32 if device.type == "mps" else torch.float64)
    torch.distributed.all_reduce(shared)
    return shared.to("cpu", torch.float64)


def of_the_first(metrics: dict[str, float], device: torch.device) -> dict[str, float]:
    """The values that the first process has: all must decide alike, whatever the rounding of each."""
    if not several():
        return metrics
    names = sorted(metrics)
    values = torch.tensor([metrics[name] for name in names], dtype=torch.float64, device=device)
    torch.distributed.broadcast(values, 0)
    return dict(zip(names, values.tolist(), strict=True))
