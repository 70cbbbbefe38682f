"""A source encoder that learns, and a copy of it that follows slowly and gives the targets.

    target <- tau target + (1 - tau) online,    tau(t) = tau_min + (tau_max - tau_min) (1 - cos(pi t / T)) / 2

Mean teacher (arXiv:1703.01780) with the momentum schedule of BYOL (arXiv:2006.07733).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

_PREFIX = "_ema_"


class EMAEncoder(nn.Module):
    """An online encoder beside its exponential moving average.

    Args:
        base_encoder: Becomes `online_encoder` itself; `target_encoder` starts as a copy of it, never carries gradient
            and stays in evaluation mode.
        tau_min: Momentum at step 0.
        tau_max: Momentum at the last step.
        schedule: "cosine", the only one.

    Raises:
        ValueError: Unless 0 < tau_min <= tau_max < 1, and for another schedule.
    """

    def __init__(
        self, base_encoder: nn.Module, tau_min: float = 0.996, tau_max: float = 0.999, schedule: str = "cosine"
    ) -> None:
        super().__init__()
        _check(tau_min, tau_max, schedule)
        self.tau_min, self.tau_max, self.schedule = tau_min, tau_max, schedule
        self.online_encoder = base_encoder
        self.target_encoder = copy.deepcopy(base_encoder).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """The online encoder's answer, with gradient."""
        encoded: Tensor = self.online_encoder(x)
        return encoded

    @torch.no_grad()
    def encode_target(self, x: Tensor) -> Tensor:
        """The target encoder's answer, without gradient."""
        encoded: Tensor = self.target_encoder(x)
        return encoded

    @torch.no_grad()
    def update_target(self, step: int, max_steps: int) -> None:
        """Move the target towards the online encoder; call it after the optimizer's step.

        Parameters are averaged. Buffers (running statistics, counters) are copied: they are averages already.

        Args:
            step: Steps made so far, from 0.
            max_steps: T, steps of the whole training; 0 or less means tau_max.
        """
        target, online = _parameters(self.target_encoder), _parameters(self.online_encoder)
        if target:
            torch._foreach_lerp_(target, online, 1 - self.get_tau(step, max_steps))
        for mine, given in zip(self.target_encoder.buffers(), self.online_encoder.buffers(), strict=True):
            mine.copy_(given)

    def get_tau(self, step: int, max_steps: int) -> float:
        """Momentum at a step; tau_max from step `max_steps` on."""
        progress = min(max(step / max_steps, 0.0), 1.0) if max_steps > 0 else 1.0
        return self.tau_min + (self.tau_max - self.tau_min) * (1 - math.cos(math.pi * progress)) / 2

    def get_tau_info(self, step: int, max_steps: int) -> dict[str, float]:
        """{"tau", "tau_min", "tau_max", "step", "max_steps"}, for logs."""
        tau = self.get_tau(step, max_steps)
        return {"tau": tau, "tau_min": self.tau_min, "tau_max": self.tau_max, "step": step, "max_steps": max_steps}

    @torch.no_grad()
    def distance(self) -> Tensor:
        """How far apart the two are: |online - target| / |online| over all parameters together, a scalar.

        It stays 0 where the online encoder does not learn.
        """
        online, target = _parameters(self.online_encoder), _parameters(self.target_encoder)
        if not online:
            return torch.zeros(())
        length = _joint_norm(online)
        return _joint_norm(list(torch._foreach_sub(online, target))) / length.clamp_min(torch.finfo(length.dtype).tiny)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the online encoder; the target stays in evaluation mode."""
        super().train(mode)
        self.target_encoder.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switch the gradient of the online encoder; the target never has one."""
        super().requires_grad_(requires_grad)
        self.target_encoder.requires_grad_(False)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in ("tau_min", "tau_max", "schedule"):
            destination[f"{prefix}{_PREFIX}{name}"] = getattr(self, name)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # `state_dict` is torch's own copy of the caller's. States without the settings keep those of this module.
        settings = {name: getattr(self, name) for name in ("tau_min", "tau_max", "schedule")}
        for name in settings:
            settings[name] = state_dict.pop(f"{prefix}{_PREFIX}{name}", settings[name])
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        try:
            tau_min, tau_max = float(settings["tau_min"]), float(settings["tau_max"])
            schedule = str(settings["schedule"])
            _check(tau_min, tau_max, schedule)
        except (TypeError, ValueError) as error:
            error_msgs.append(str(error))
        else:
            self.tau_min, self.tau_max, self.schedule = tau_min, tau_max, schedule


def identity_encoder(dim: int) -> nn.Linear:
    """A linear map [D] -> [D] without bias that starts as the identity: the target space is then the sources' own."""
    encoder = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(encoder.weight)
    return encoder


def _check(tau_min: float, tau_max: float, schedule: str) -> None:
    if not 0 < tau_min <= tau_max < 1:
        raise ValueError(f"ema: need 0 < tau_min <= tau_max < 1, got {tau_min} and {tau_max}.")
    if schedule != "cosine":
        raise ValueError(f"ema: the schedule must be 'cosine', got {schedule!r}.")


def _parameters(module: nn.Module) -> list[Tensor]:
    return list(module.parameters())


def _joint_norm(tensors: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm
