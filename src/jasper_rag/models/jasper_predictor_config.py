"""Settings of the predictor; free of torch so that help texts and validation stay instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jasper_rag.models.settings import ModelSettings

Activation = Literal["GELU", "ReLU", "SiLU", "Tanh", "ELU", "LeakyReLU"]


class JASPERPredictorConfig(ModelSettings):
    """What the predictor is made of; an unknown key is refused.

    The first seven keys are those of the documented network; the last four are the paths around it.
    """

    embedding_dim: int = Field(768, gt=0, description="D, the width of the embedding model's vectors.")
    hidden_dim: int = Field(512, gt=0, description="Width of the hidden layers of the MLPs.")
    num_layers: int = Field(3, ge=1, description="Linear layers in each MLP.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout after each hidden layer.")
    activation: Activation = Field("GELU", description="Activation of the hidden layers.")
    use_layer_norm: bool = Field(True, description="LayerNorm after each hidden activation.")
    normalize_output: bool = Field(False, description="Scale predictions to unit length.")
    residual: bool = Field(True, description="Add the question: an untrained predictor then returns it unchanged.")
    linear_path: bool = Field(True, description="Linear maps of question and steering beside the MLP, starting at 0.")
    mlp: bool = Field(True, description="The two encoders and the head; off, only the linear maps are left.")
    mlp_scale: float = Field(0.01, gt=0, description="Factor of the MLP's part where another path stands beside it.")
