"""The device that a name stands for, refused at once where tensors cannot lie or be computed on it."""

from __future__ import annotations

import torch

from jasper_rag.errors import InputError


def present_device(device: str | torch.device | None) -> torch.device:
    """The device of that name, after a number has been put there; None is the CPU.

    Raises:
        InputError: torch knows no such device, or finds none here.
    """
    return _tried("cpu" if device is None else device, read=False)


def usable_device(device: str | torch.device) -> torch.device:
    """The same after the number has been read back, which a device without data ("meta") refuses.

    Raises:
        InputError: As `present_device`, or nothing can be read from it.
    """
    return _tried(device, read=True)


def _tried(device: str | torch.device, *, read: bool) -> torch.device:
    try:
        found = torch.device(device)
        number = torch.zeros(1, device=found)
        if read:
            number.tolist()
    except (RuntimeError, AssertionError, TypeError) as error:
        message = str(error).strip().splitlines()[0].rstrip(".!")
        raise InputError(
            f"device {str(device)!r} cannot be used: {message}.",
            field="device",
            remedy='Use "cpu", or leave it out: a GPU is used where torch finds one.',
        ) from error
    return found
