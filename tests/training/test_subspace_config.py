from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.losses.routing_objective import RoutingObjective
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig
from jasper_rag.training.run_config import load_run_config
from jasper_rag.training.subspace_config import SubspaceRunConfig, load_subspace_config
from jasper_rag.yaml_files import read_yaml


@pytest.mark.slow
def test_the_documented_file_holds_the_documented_values(repository: Path) -> None:
    path = repository / "configs" / "subspace_jasper.yaml"
    config = load_subspace_config(path)
    training = config.training
    assert (training.num_epochs, training.warmup_epochs, training.learning_rate) == (80, 3, 2e-4)
    assert config.monitoring.wandb_project == "jasper-rag-subspace"
    # Everything else is a default, but for the K of the documentation.
    given = read_yaml(path)
    for section in ("model", "ema", "loss", "routing_loss", "dataset", "xai"):
        assert getattr(config, section) == getattr(SubspaceRunConfig(), section), section
    assert config.router == SubspaceRunConfig().router.model_copy(update={"num_subspaces": 8})
    assert set(given["routing_loss"]) == set(type(config.routing_loss).model_fields)
    assert set(given["xai"]) == set(type(config.xai).model_fields)


@pytest.mark.slow
def test_the_plain_file_will_do(repository: Path) -> None:
    path = repository / "configs" / "jasper_base.yaml"
    config, plain = load_subspace_config(path), load_run_config(path)
    assert config.to_dict() == plain.to_dict() | {
        name: getattr(SubspaceRunConfig(), name).model_dump(mode="json") for name in ("router", "routing_loss", "xai")
    }
    assert SubspaceRunConfig(**config.to_dict()) == config


def test_defaults_are_those_of_their_parts() -> None:
    config = SubspaceRunConfig()
    arguments = inspect.signature(RoutingObjective).parameters
    assert {name: arguments[name].default for name in config.routing_loss.model_dump()} == (
        config.routing_loss.model_dump()
    )
    made = config.predictor(5)
    assert made == DecomposedJASPERConfig(
        num_subspaces=5,
        num_layers=3,
        router_num_layers=2,
        router_dropout=0.1,
        router_activation="GELU",
        router_use_layer_norm=True,
    )
    assert made.router() == SubspaceRouterConfig(num_subspaces=5)


def test_every_router_key_arrives() -> None:
    values = {
        **{"hidden_dim": 7, "num_layers": 3, "dropout": 0.3, "activation": "ReLU", "use_layer_norm": False},
        **{"temperature": 0.7, "gumbel_hard": True, "normalize_input": False, "final_temperature": 0.2},
        **{"argmax": True, "cosine_logits": False, "cosine_temperature": 0.5},
    }
    config = SubspaceRunConfig(router={**values, "fine_input_mode": "add"})
    made = config.predictor(4)
    assert made.router().model_dump() == values | {"embedding_dim": 768, "num_subspaces": 4}
    assert made.fine_input_mode == "add"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"router.temprature": 1.0}, "Did you mean 'temperature'"),
        ({"router.num_subspaces": 1}, "num_subspaces"),
        ({"routing_loss.lambda_entrop": 1.0}, "Did you mean 'lambda_entropy'"),
        ({"routing_loss.lambda_routing": -1.0}, "lambda_routing"),
        ({"routing_loss.entropy_high": 0.05}, "entropy_low 0.1 must not be above"),
        ({"routing_loss.residual_margin": "nan"}, "must be a finite number"),
        ({"xai.xai_every_n_epochs": 0}, "xai_every_n_epochs"),
        ({"xai.num_pairs": 3}, "num_similar_pairs"),
        ({"router.freeze_router": True, "router.cosine_logits": False}, "would keep a random router"),
        ({"router.anchor_epochs": 2, "routing_loss.lambda_routing": 0.0}, "needs routing_loss.lambda_routing above 0"),
    ],
)
def test_what_is_wrong_is_said(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_subspace_config(None, overrides)
    assert said in str(caught.value)


def test_a_plain_run_knows_no_router() -> None:
    with pytest.raises(InputError, match="unknown key"):
        load_run_config(None, {"router.temperature": 1.0})


@pytest.mark.slow
def test_settings_load_no_torch() -> None:
    code = "import sys, jasper_rag.training.subspace_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
