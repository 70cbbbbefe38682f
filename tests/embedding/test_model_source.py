from __future__ import annotations

import importlib.util
import json
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from jasper_rag.embedding import model_source
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.embedding.model_source import DEMO_MODEL, DEMO_PACKAGE, DEMO_SHA256, hub_is_reachable, locate
from jasper_rag.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache, no hub, no demo extra, no environment."""
    for variable in ("JASPER_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(model_source, "hub_is_reachable", lambda endpoint: False)
    monkeypatch.setattr(model_source, "DEMO_PACKAGE", "no_such_demo_package")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def cached(tmp_path: Path, repo: str, *names: str) -> Path:
    base = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    fill(base, "refs/main")
    (base / "refs" / "main").write_text(COMMIT)
    return fill(base / "snapshots" / COMMIT, *names)


def connect(monkeypatch: pytest.MonkeyPatch, download: Any) -> list[dict[str, Any]]:
    """Make the hub reachable and its download a fake; returns the calls made to it."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        calls.append({"repo_id": repo_id, **options})
        return str(download(repo_id, len(calls)))

    monkeypatch.setattr(model_source, "hub_is_reachable", lambda endpoint: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = fill(tmp_path / "my model" / "v1" / "final", "config.json")
    assert locate(str(folder)) == folder


@pytest.mark.parametrize(
    "name", ["no/such/folder", "/nowhere", "./model", "../model", "~no-such-user/model", "x/" * 3000, "a\0b"]
)
def test_a_missing_folder_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(InputError, match="is missing; expected a model folder"):
        locate(name)


@pytest.mark.parametrize("name", ["a..b/c", "a/b--c", "org/model.", "x" * 97])
def test_an_impossible_name_is_no_traceback(name: str) -> None:
    with pytest.raises(InputError, match="neither a folder nor a possible name on the model hub"):
        locate(name)


def test_a_file_or_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a file"):
        locate(str(fill(tmp_path, "weights.bin") / "weights.bin"))
    with pytest.raises(InputError, match=r"neither modules\.json nor config\.json"):
        locate(str(tmp_path))


def test_a_cached_snapshot_is_found_and_its_commit_known(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "sentence-transformers/small", "modules.json", "model.safetensors")
    (snapshot / "modules.json").write_text("[]")
    assert locate("small", offline=True) == snapshot
    assert locate("sentence-transformers/small") == snapshot
    assert model_source.commit_of(snapshot) == COMMIT
    assert model_source.commit_of(tmp_path) == ""


def test_a_snapshot_without_all_its_weights_is_passed_over(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "org/big", "config.json", "model-00001-of-00002.safetensors")
    with pytest.raises(InputError, match="not in the hub's cache"):
        locate("org/big", offline=True)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="at revision main"):
        locate("org/big", revision="main", offline=True)
    fill(snapshot, "model-00002-of-00002.safetensors")
    assert locate("org/big", offline=True) == snapshot


@pytest.mark.parametrize("variable", ["JASPER_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_environment_forbids_the_hub(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = connect(monkeypatch, lambda repo, call: pytest.fail("asked the hub"))
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError, match=f"was not asked \\({variable} is set\\)[\\s\\S]*unset {variable}"):
        locate("org/model")
    monkeypatch.setenv(variable, "0")
    assert model_source.offline_by_environment() is None
    assert calls == []


def test_offline_names_the_remedies() -> None:
    with pytest.raises(InputError) as caught:
        locate("org/model", offline=True)
    message = str(caught.value)
    for part in ("'org/model'", "no such folder", "was not asked (offline)", "--offline", "jasper-rag[demo]", "PATH"):
        assert part in message


def test_an_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://example.org/")
    with pytest.raises(InputError, match=r"hub at https://example\.org cannot be reached"):
        locate("org/model")


def test_the_hub_is_asked_for_safetensors_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "download", "config.json")

    def download(repo: str, call: int) -> Path:
        return folder if call == 1 else fill(folder, "pytorch_model.bin")

    calls = connect(monkeypatch, download)
    assert locate("org/model", revision="v1") == folder
    assert ["pytorch_model*.bin" in call["ignore_patterns"] for call in calls] == [True, False]
    assert {(call["repo_id"], call["revision"]) for call in calls} == {("org/model", "v1")}


def test_failures_of_the_hub_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, call: int) -> Path:
        if repo.startswith("sentence-transformers/"):
            raise LocalEntryNotFoundError("it broke\nin the middle")
        return fill(tmp_path / "empty", "config.json")

    connect(monkeypatch, download)
    with pytest.raises(InputError) as caught:
        locate("model")
    assert "no usable sentence-transformers/model (LocalEntryNotFoundError: it broke)" in str(caught.value)
    assert "model on the hub holds no weights" in str(caught.value)


def test_the_demo_extra_stands_in_and_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="demo extra is not installed"):
        locate("all-MiniLM-L6-v2")
    folder = fill(tmp_path / "package" / "model", "modules.json", "model.safetensors")
    spec = SimpleNamespace(submodule_search_locations=[str(folder.parent)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match=f"expected {DEMO_SHA256}"):
        locate(DEMO_MODEL)
    monkeypatch.setattr(model_source, "DEMO_SHA256", file_sha256(folder / "model.safetensors"))
    assert locate("all-MiniLM-L6-v2", offline=True) == folder
    assert locate(DEMO_MODEL, revision="main") == folder
    with pytest.raises(InputError, match="the demo extra has no revision 'v1'"):
        locate(DEMO_MODEL, revision="v1")
    with pytest.raises(InputError, match="no model 'all-mpnet-base-v2'"):
        locate("all-mpnet-base-v2")


@pytest.mark.slow
@pytest.mark.demo
@pytest.mark.skipif(importlib.util.find_spec(DEMO_PACKAGE) is None, reason="the demo extra is not installed")
def test_the_installed_demo_extra_holds_the_known_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_source, "DEMO_PACKAGE", DEMO_PACKAGE)
    folder = locate("all-MiniLM-L6-v2", offline=True)
    assert model_source.weights_sha256(folder) == DEMO_SHA256


def test_hub_is_reachable_asks_the_endpoint_or_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def create_connection(address: tuple[str, int], timeout: float) -> SimpleNamespace:
        asked.append(address)
        if address[0] == "down":
            raise OSError("refused")
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert hub_is_reachable("https://hub.example")
    assert hub_is_reachable("http://mirror:8080/hf")
    assert not hub_is_reachable("http://down")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert hub_is_reachable("https://hub.example")
    monkeypatch.setenv("no_proxy", "hub.example")
    assert hub_is_reachable("https://hub.example")
    expected = [("hub.example", 443), ("mirror", 8080), ("down", 80), ("proxy", 3128), ("hub.example", 443)]
    assert asked == expected


def test_hub_probe_keeps_its_time_limit_when_the_name_lookup_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> SimpleNamespace:
        time.sleep(0.5)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(socket, "create_connection", hang)
    started = time.perf_counter()
    assert not hub_is_reachable("https://hub.example", timeout_s=0.05)
    assert time.perf_counter() - started < 0.4


def test_hashes_cover_modules_and_leave_out_everything_else(tmp_path: Path) -> None:
    folder = fill(
        tmp_path / "m", "config.json", "model.safetensors", "2_Dense/model.safetensors", "2_Dense/config.json"
    )
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "2_Dense"}]))
    fill(folder, "vocab.txt")
    weights, configuration = model_source.weights_sha256(folder), model_source.configuration_sha256(folder)
    fill(
        folder,
        "README.md",
        "onnx/model.onnx",
        "checkpoint-5/model.safetensors",
        "training_args.bin",
        "pytorch_model.bin",
    )
    assert model_source.weights_sha256(folder) == weights
    assert model_source.configuration_sha256(folder) == configuration
    (folder / "vocab.txt").write_text("other")
    assert model_source.configuration_sha256(folder) != configuration
    (folder / "2_Dense" / "model.safetensors").write_text("other weights")
    assert model_source.weights_sha256(folder) != weights


def test_one_weight_file_is_its_own_hash_and_none_is_empty(tmp_path: Path) -> None:
    folder = fill(tmp_path / "m", "config.json", "pytorch_model.bin")
    assert model_source.weights_sha256(folder) == file_sha256(folder / "pytorch_model.bin")
    assert model_source.weights_sha256(fill(tmp_path / "n", "config.json")) == ""
