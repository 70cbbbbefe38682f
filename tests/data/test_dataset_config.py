from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.data.dataset_config import read_config
from jasper_rag.errors import InputError

SOUND: dict[str, Any] = {"embedding_dim": 8, "n_neg": 2}
SHARES = {"zero": 0.4, "centroid": 0.3, "keyword": 0.2, "residual": 0.1}


def read(tmp_path: Path, value: Any) -> Any:
    path = tmp_path / "config.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_config(path)[0]


def test_little_is_needed(tmp_path: Path) -> None:
    config = read(tmp_path, SOUND)
    assert (config.random_seed, config.n_pairs, config.format_version) == (42, None, None)
    assert config.steering_fallback_strategy == "centroid"
    assert not config.steering_normalize_residual


def test_the_whole_file_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SOUND | {"dataset_name": "mine"}))
    assert read_config(path)[1]["dataset_name"] == "mine"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("embedding_dim", None),
        ("embedding_dim", "8"),
        ("embedding_dim", 0),
        ("embedding_dim", 8.0),
        ("n_neg", True),
        ("n_neg", -1),
        ("n_pairs", -1),
        ("n_pairs", "many"),
        ("random_seed", 1.5),
        ("format_version", 2),
        ("format_version", "1"),
        ("steering_probabilities", {"zero": 1.0, "centroid": 0.0, "keyword": 0.0, "residual": 0.5}),
        ("steering_probabilities", SHARES | {"none": 0.0}),
        ("steering_probabilities", SHARES | {"zero": -0.4}),
        ("steering_probabilities", [0.25] * 4),
        ("curriculum", {"mode": "steps"}),
        ("curriculum", {"zero_prob_start": 1.5}),
        ("curriculum", {"zero_prob_start": float("nan")}),
        ("curriculum", {"epochs_total": -1}),
        ("curriculum", {"warmup_epochs": 10**400}),
        ("curriculum", "linear"),
        ("steering_fallback_strategy", "random"),
        ("steering_normalize_residual", 1),
        ("split_ratios", [0.5, 0.5]),
        ("split_ratios", [0.5, 0.5, 0.5]),
        ("storage_format", "csv"),
        ("clustering_source", 3),
        ("include_inspection_file", "no"),
        ("csv_splits", []),
        ("encoder", "name"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, SOUND | {field: value})
    assert str(caught.value).startswith(f"{tmp_path}/config.json [{field}")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"embedding_dim": 1' + "0" * 5000 + "}", "[" * 100_000])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: cannot be read \(No such file"):
        read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not valid JSON"):
        read_config(tmp_path / "config.json")


@pytest.mark.slow
def test_it_imports_no_torch() -> None:
    code = "import sys, jasper_rag.data.dataset_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
