from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jasper_rag.embedding.gaussian_base import enable_gradient_checkpointing, freeze_early, parameters_sha256
from jasper_rag.errors import InputError


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.experts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.experts[1](self.experts[0](self.attention(x))))


class Stack(nn.Module):
    """A transformer as far as its names go."""

    def __init__(self, path: str, layers: int = 6) -> None:
        super().__init__()
        self.embeddings = nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3))
        self.path, self.head = path, nn.Linear(3, 3)
        inner: nn.Module = nn.ModuleList([Layer() for _ in range(layers)])
        for name in reversed(path.split(".")):
            outer = nn.Module()
            outer.add_module(name, inner)
            inner = outer
        self.body = inner

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embeddings(tokens)
        for layer in self.body.get_submodule(self.path).children():
            hidden = layer(hidden)
        mapped: Tensor = self.head(hidden)
        return mapped


@pytest.mark.parametrize("path", ["encoder.layer", "layers", "model.layers", "transformer.h", "blocks"])
def test_early_layers_are_found_by_structure_and_get_no_gradient(path: str) -> None:
    model = Stack(path)
    frozen = freeze_early(model)
    assert len(frozen) == 3 + 4 * 5
    model(torch.tensor([0, 1, 2])).sum().backward()
    for name, parameter in model.named_parameters():
        early = name.startswith("embeddings.") or any(f"{path}.{number}." in name for number in range(4))
        assert (name in frozen) == early == (parameter.grad is None)


def test_layers_that_cannot_be_told_are_an_error() -> None:
    with pytest.raises(InputError, match="no list of equal layers with attention"):
        freeze_early(nn.Sequential(nn.Linear(2, 2)))
    twice = nn.ModuleDict({"encoder": Stack("layers"), "decoder": Stack("layers")})
    with pytest.raises(InputError, match=r"encoder\.body\.layers, decoder\.body\.layers"):
        freeze_early(twice)
    with pytest.raises(InputError, match="has 4 layers"):
        freeze_early(Stack("layers", 4))


def test_the_longer_of_two_stacks_is_the_one() -> None:
    both = nn.ModuleDict({"resampler": Stack("layers", 3), "text": Stack("layers", 6)})
    frozen = freeze_early(both)
    assert any("text.body.layers.3." in name for name in frozen)
    assert not any("resampler.body.layers" in name for name in frozen)


def test_a_model_that_cannot_recompute_says_so() -> None:
    with pytest.raises(InputError, match="no gradient checkpointing"):
        enable_gradient_checkpointing(nn.Linear(1, 1))


def test_the_hash_is_over_names_shapes_and_values() -> None:
    one = {"a": torch.ones(2, 3), "b": torch.zeros(1)}
    assert parameters_sha256(one) == parameters_sha256(dict(reversed(one.items())))
    changed = [
        {"c": one["a"], "b": one["b"]},
        {**one, "a": torch.ones(3, 2)},
        {**one, "b": torch.full((1,), 1e-7)},
    ]
    assert len({parameters_sha256(each) for each in [one, *changed]}) == 4
