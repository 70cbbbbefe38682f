from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jasper_rag.embedding.gaussian_checkpoint import read_gaussian_checkpoint, write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError

TEXTS = ["the heart pump blood", "list the files", "a folder"]


def moved(model: GaussianEmbeddingGemma) -> GaussianEmbeddingGemma:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.requires_grad:
                parameter.add_(0.01 * (number % 7 + 1))
    return model


def saved(folder: Path, path: Path, **settings: Any) -> GaussianEmbeddingGemma:
    model = moved(GaussianEmbeddingGemma(20, str(folder), device="cpu", **settings)).eval()
    write_gaussian_checkpoint(path, {**model.state(), "epoch": 3})
    return model


@pytest.mark.slow
@pytest.mark.parametrize("freeze_base", [True, False])
@pytest.mark.parametrize("use_predictor", [True, False])
def test_the_path_alone_gives_the_same_embeddings(
    prompted_model: Path, tmp_path: Path, freeze_base: bool, use_predictor: bool
) -> None:
    path = tmp_path / "best_model.pt"
    settings = {"freeze_base": freeze_base, "use_predictor": use_predictor, "max_seq_length": 8}
    model = saved(prompted_model, path, document_prompt="list ", **settings)
    loaded = GaussianEmbeddingGemma.from_pretrained(path)
    assert not loaded.training
    assert loaded.config() == model.config()
    roles: list[Role] = ["query", "document"]
    for role in roles:
        wanted = model.predict_query(model.encode(TEXTS, role=role))
        found = loaded.predict_query(loaded.encode(TEXTS, role=role))
        assert torch.equal(found, wanted)
    state = read_gaussian_checkpoint(path)
    assert state["epoch"] == 3
    assert any(name.startswith("base.") for name in state["model_state_dict"]) != freeze_base


@pytest.mark.slow
def test_a_base_that_was_trained_is_kept_when_frozen_later(tiny_model: Path, tmp_path: Path) -> None:
    model = saved(tiny_model, tmp_path / "one.pt")
    again = GaussianEmbeddingGemma.from_pretrained(tmp_path / "one.pt")
    again.set_frozen(freeze_base=True)
    write_gaussian_checkpoint(tmp_path / "two.pt", again.state())
    last = GaussianEmbeddingGemma.from_pretrained(tmp_path / "two.pt")
    assert last.freeze_base
    assert torch.equal(last.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.slow
def test_another_base_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    model = saved(tiny_model, path, freeze_base=True)
    elsewhere, other = tmp_path / "elsewhere", tmp_path / "other"
    for folder in (elsewhere, other):
        shutil.copytree(tiny_model, folder)
    weights = load_file(other / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 0.1}, other / "model.safetensors", metadata={"format": "pt"})
    same = GaussianEmbeddingGemma.from_pretrained(path, base_model=str(elsewhere))
    assert torch.equal(same.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(InputError, match=r"differs in weights \(SHA-256\)") as error:
        GaussianEmbeddingGemma.from_pretrained(path, base_model=str(other))
    assert error.value.path == path


@pytest.mark.slow
def test_another_dimension_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    saved(tiny_model, tmp_path / "best_model.pt", freeze_base=True)
    with pytest.raises(InputError, match="20 dimensions, not 512"):
        GaussianEmbeddingGemma.from_pretrained(tmp_path / "best_model.pt", output_dim=512)
    loaded = GaussianEmbeddingGemma.from_pretrained(tmp_path / "best_model.pt", output_dim=20)
    assert loaded.output_dim == 20


@pytest.mark.slow
def test_a_base_that_is_gone_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    saved(folder, tmp_path / "best_model.pt", freeze_base=True)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="--base_model") as error:
        GaussianEmbeddingGemma.from_pretrained(tmp_path / "best_model.pt")
    assert str(folder) in str(error.value)


@pytest.mark.slow
def test_missing_and_damaged_files_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    with pytest.raises(InputError, match="no checkpoint here"):
        read_gaussian_checkpoint(path)
    saved(tiny_model, path, freeze_base=True)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a checkpoint"):
            read_gaussian_checkpoint(path)


def test_files_that_hold_more_than_plain_values_are_refused(tmp_path: Path) -> None:
    torch.save({"config": tmp_path}, tmp_path / "code.pt")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_gaussian_checkpoint(tmp_path / "code.pt")


@pytest.mark.slow
def test_files_of_another_format_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = GaussianEmbeddingGemma(20, str(tiny_model), freeze_base=True, device="cpu")
    state = model.state()
    weights, config = state["model_state_dict"], state["config"]
    head = "projection.linear.weight"
    cases: list[tuple[Any, str]] = [
        ([1], "holds a list"),
        ({**state, "format_version": 9}, "format version 9"),
        ({"config": config}, "lacks model_state_dict"),
        ({"model_state_dict": weights}, "lacks config"),
        ({**state, "config": {**config, "base_dim": "many"}}, r"\[base_dim\]: 'many' is of the wrong type"),
        ({**state, "config": {**config, "output_dim": True}}, "wrong type"),
        (
            {**state, "config": {k: v for k, v in config.items() if k != "query_prompt"}},
            r"query_prompt\]: is missing",
        ),
        ({"model_state_dict": {"projection.0.weight": torch.ones(2, 2)}}, "plain MLP head"),
        ({**state, "config": {**config, "base_configuration_sha256": "0" * 64}}, "differs in configuration"),
        ({**state, "config": {**config, "base_dim": 31}}, "differs in dimension: expected 31, found 32"),
        ({**state, "model_state_dict": {k: v for k, v in weights.items() if k != head}}, f"lacks {head}"),
        ({**state, "model_state_dict": {**weights, "more": torch.ones(1)}}, "has an unknown more"),
        ({**state, "model_state_dict": {**weights, head: torch.ones(3)}}, r"shape \[20, 32\]"),
    ]
    for content, message in cases:
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(InputError, match=message):
            GaussianEmbeddingGemma.from_pretrained(tmp_path / "file.pt")


@pytest.mark.slow
def test_a_failed_write_leaves_the_old_file(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    saved(tiny_model, path, freeze_base=True)
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_gaussian_checkpoint(path, {"config": lambda: None})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
