"""Settings of the router; free of torch so that help texts and validation stay instant."""

from __future__ import annotations

from pydantic import Field

from jasper_rag.models.jasper_predictor_config import Activation
from jasper_rag.models.settings import ModelSettings


class SubspaceRouterConfig(ModelSettings):
    """What the router is made of; an unknown key is refused.

    The first ten keys are those of the documented network; the last four are what this one adds.
    """

    embedding_dim: int = Field(768, gt=0, description="D, the width of questions, steering and centroids.")
    hidden_dim: int = Field(256, gt=0, description="Width of the hidden layers.")
    num_subspaces: int = Field(8, ge=2, description="K, the number of subspaces.")
    num_layers: int = Field(2, ge=1, description="Linear layers.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout after each hidden layer.")
    activation: Activation = Field("GELU", description="Activation of the hidden layers.")
    use_layer_norm: bool = Field(True, description="LayerNorm after each hidden activation.")
    temperature: float = Field(1.0, gt=0, description="Divides the logits at inference; where training starts from.")
    gumbel_hard: bool = Field(False, description="One subspace per training sample, with the soft sample's gradient.")
    normalize_input: bool = Field(True, description="Scale question and steering, put together, to length 1.")
    final_temperature: float = Field(0.1, gt=0, description="Temperature at the end of training, if below the first.")
    argmax: bool = Field(False, description="At inference all weight goes to the most likely subspace.")
    cosine_logits: bool = Field(True, description="Start from the cosines to the centroids; the network corrects them.")
    cosine_temperature: float = Field(0.05, gt=0, description="Divides these cosines.")
