from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from jasper_rag.models.ema_config import EMAConfig
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder

DIM = 5


class Normed(nn.Module):
    """Parameters (two of them one), running statistics, a counter and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM), nn.Linear(DIM, DIM)
        self.second.weight = self.first.weight
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.dropout(self.second(self.norm(self.first(x))))
        return answer


def encoder(seed: int = 0) -> Normed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Normed()


def vectors(seed: int = 0) -> Tensor:
    return torch.randn(8, DIM, generator=torch.Generator().manual_seed(seed))


def learn(ema: EMAEncoder) -> None:
    """One training step of the online encoder."""
    optimizer = torch.optim.SGD(ema.online_encoder.parameters(), lr=0.5)
    torch.autograd.backward(ema(vectors()).square().sum())
    optimizer.step()


def states(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_online_is_the_encoder_given_and_target_a_copy() -> None:
    base = encoder()
    ema = EMAEncoder(base)
    assert ema.online_encoder is base
    assert ema.target_encoder is not base
    for name, value in base.state_dict().items():
        assert torch.equal(ema.target_encoder.state_dict()[name], value)
        assert ema.target_encoder.state_dict()[name].data_ptr() != value.data_ptr()
    assert all(parameter.requires_grad for parameter in base.parameters())


@pytest.mark.parametrize(("step", "steps"), [(0, 10), (3, 10), (10, 10), (25, 10), (4, 0)])
def test_update_is_a_moving_average_of_parameters_and_a_copy_of_buffers(step: int, steps: int) -> None:
    ema = EMAEncoder(encoder(), tau_min=0.4, tau_max=0.9)
    learn(ema)
    before, online = states(ema.target_encoder), states(ema.online_encoder)
    ema.update_target(step, steps)
    tau = 0.4 + 0.5 * (1 - math.cos(math.pi * min(step / steps, 1))) / 2 if steps else 0.9
    assert online["norm.num_batches_tracked"] == 1
    for name, found in states(ema.target_encoder).items():
        average = tau * before[name] + (1 - tau) * online[name]
        torch.testing.assert_close(found, online[name] if "running" in name or "num" in name else average)
    for name, value in states(ema.online_encoder).items():
        assert torch.equal(value, online[name])


def test_shared_parameters_move_once() -> None:
    ema = EMAEncoder(encoder(), tau_min=0.5, tau_max=0.5)
    before = ema.target_encoder.get_parameter("first.weight").clone()
    learn(ema)
    ema.update_target(0, 1)
    expected = (before + ema.online_encoder.get_parameter("first.weight")) / 2
    torch.testing.assert_close(ema.target_encoder.get_parameter("first.weight"), expected)


def test_tau_rises_from_min_to_max() -> None:
    ema = EMAEncoder(identity_encoder(DIM))
    taus = [ema.get_tau(step, 100) for step in range(101)]
    assert (taus[0], taus[-1]) == (0.996, 0.999)
    assert taus == sorted(taus)
    assert taus[50] == pytest.approx(0.9975)
    assert ema.get_tau(-5, 100) == 0.996
    assert ema.get_tau(0, 0) == ema.get_tau(7, -1) == 0.999
    info = {"tau": taus[50], "tau_min": 0.996, "tau_max": 0.999, "step": 50, "max_steps": 100}
    assert ema.get_tau_info(50, 100) == info


def test_online_has_gradient_and_target_never() -> None:
    ema = EMAEncoder(encoder())
    assert ema(vectors()).requires_grad
    assert not ema.encode_target(vectors()).requires_grad
    for change in (ema.train, ema.requires_grad_):
        assert change() is ema
        assert not any(parameter.requires_grad for parameter in ema.target_encoder.parameters())
        assert not any(module.training for module in ema.target_encoder.modules())
        assert all(module.training for module in ema.online_encoder.modules())
    assert not any(parameter.requires_grad for parameter in ema.requires_grad_(False).parameters())


def test_targets_are_deterministic_and_leave_the_statistics() -> None:
    ema = EMAEncoder(encoder()).train()
    before = states(ema.target_encoder)
    assert torch.equal(ema.encode_target(vectors()), ema.encode_target(vectors()))
    assert all(torch.equal(value, before[name]) for name, value in states(ema.target_encoder).items())


def test_distance() -> None:
    ema = EMAEncoder(encoder())
    assert ema.distance() == 0
    learn(ema)
    online, target = (
        torch.cat([parameter.detach().flatten() for parameter in part.parameters()])
        for part in (ema.online_encoder, ema.target_encoder)
    )
    torch.testing.assert_close(ema.distance(), (online - target).norm() / online.norm())
    assert not ema.distance().requires_grad
    assert EMAEncoder(nn.Identity()).distance() == 0
    EMAEncoder(nn.Identity()).update_target(0, 1)


def test_state_goes_through_a_file_and_back() -> None:
    ema = EMAEncoder(encoder(), 0.9, 0.95)
    learn(ema)
    ema.update_target(0, 1)
    file = io.BytesIO()
    torch.save(ema.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    keys = set(state)
    other = EMAEncoder(encoder(1))
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert set(state) == keys
    assert {"_ema_tau_min", "_ema_tau_max", "_ema_schedule", "online_encoder.first.weight"} <= keys
    assert (other.tau_min, other.tau_max, other.schedule) == (0.9, 0.95, "cosine")
    assert not any(parameter.requires_grad for parameter in other.target_encoder.parameters())
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]) if isinstance(value, Tensor) else value == state[name]


def test_state_of_a_module_around_it() -> None:
    ema, other = EMAEncoder(encoder(), 0.5), EMAEncoder(encoder(1), 0.6)
    state = nn.ModuleDict({"ema": ema}).state_dict()
    assert state["ema._ema_tau_min"] == 0.5
    nn.ModuleDict({"ema": other}).load_state_dict(state)
    assert other.tau_min == 0.5
    torch.testing.assert_close(states(other.target_encoder), states(ema.target_encoder))


def test_states_without_settings_keep_those_of_the_module() -> None:
    ema = EMAEncoder(encoder(), 0.9, 0.95)
    state = {name: value for name, value in EMAEncoder(encoder(1)).state_dict().items() if "_ema_" not in name}
    ema.load_state_dict(state)
    assert (ema.tau_min, ema.tau_max) == (0.9, 0.95)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ema.load_state_dict(state | {"surplus": torch.ones(1)})
    with pytest.raises(RuntimeError, match="Missing key"):
        ema.load_state_dict({name: value for name, value in state.items() if "online" in name})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_ema_tau_min": 2.0}, "0 < tau_min <= tau_max < 1, got 2.0"),
        ({"_ema_tau_max": None}, "NoneType"),
        ({"_ema_schedule": "linear"}, "must be 'cosine', got 'linear'"),
    ],
)
def test_settings_of_a_state_are_checked(change: dict[str, Any], message: str) -> None:
    ema = EMAEncoder(encoder())
    with pytest.raises(RuntimeError, match=message):
        ema.load_state_dict(ema.state_dict() | change)
    assert (ema.tau_min, ema.tau_max, ema.schedule) == (0.996, 0.999, "cosine")


def test_a_deep_copy_is_on_its_own() -> None:
    ema = EMAEncoder(encoder(), 0.9)
    copied = copy.deepcopy(ema)
    learn(ema)
    ema.update_target(0, 1)
    assert copied.tau_min == 0.9
    assert copied.distance() == 0
    assert ema.distance() > 0


def test_identity_encoder() -> None:
    ema = EMAEncoder(identity_encoder(DIM))
    assert torch.equal(ema(vectors()), vectors())
    assert torch.equal(ema.encode_target(vectors()), vectors())
    assert identity_encoder(DIM).bias is None
    assert identity_encoder(DIM).weight.requires_grad


@pytest.mark.parametrize(("tau_min", "tau_max"), [(0.0, 0.9), (0.9, 0.8), (0.9, 1.0), (-0.1, 0.5), (float("nan"), 0.9)])
def test_bad_momenta_are_refused(tau_min: float, tau_max: float) -> None:
    with pytest.raises(ValueError, match="need 0 < tau_min <= tau_max < 1, got"):
        EMAEncoder(identity_encoder(DIM), tau_min, tau_max)
    with pytest.raises(ValidationError):
        EMAConfig(tau_min=tau_min, tau_max=tau_max)


def test_only_the_cosine_schedule() -> None:
    with pytest.raises(ValueError, match="must be 'cosine', got 'linear'"):
        EMAEncoder(identity_encoder(DIM), schedule="linear")


def test_config() -> None:
    documented = {"tau_min": 0.996, "tau_max": 0.999, "schedule": "cosine"}
    assert EMAConfig().model_dump() == documented | {"target": "identity"}
    for bad in ({"tau": 0.9}, {"schedule": "linear"}, {"target": "frozen"}):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            EMAConfig.model_validate(bad)
