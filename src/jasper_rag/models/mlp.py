"""The documented network's building blocks: a stack of linear layers, and a map that starts at 0."""

from __future__ import annotations

import math

from torch import nn

from jasper_rag.models.dropout import Dropout
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "GELU": nn.GELU,
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
    "Tanh": nn.Tanh,
    "ELU": nn.ELU,
    "LeakyReLU": nn.LeakyReLU,
}


def zero_map(dim: int) -> nn.Linear:
    """A linear map [D] -> [D] without bias that starts at 0."""
    linear = nn.Linear(dim, dim, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def mlp(inputs: int, outputs: int, config: JASPERPredictorConfig) -> nn.Sequential:
    """`num_layers` linear layers; hidden ones are followed by activation, LayerNorm and dropout, in this order."""
    layers: list[nn.Module] = []
    width = inputs
    for _ in range(config.num_layers - 1):
        layers += [nn.Linear(width, config.hidden_dim), ACTIVATIONS[config.activation]()]
        if config.use_layer_norm:
            layers.append(nn.LayerNorm(config.hidden_dim))
        if config.dropout:
            layers.append(Dropout(config.dropout))
        width = config.hidden_dim
    layers.append(nn.Linear(width, outputs))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=1 / math.sqrt(2))
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
