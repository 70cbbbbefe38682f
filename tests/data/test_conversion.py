from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jasper_rag.data.conversion import TargetFormat, convert_dataset, convert_pt_to_hdf5
from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError


def everything(dataset: JASPERSteeringDataset) -> list[Tensor]:
    return list(dataset.__getitems__(np.arange(len(dataset))).tensors.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
@pytest.mark.parametrize("target", ["safetensors", "pt", "hdf5"])
def test_a_converted_directory_serves_the_same(make: Callable[..., Any], kind: str, target: TargetFormat) -> None:
    made = make(kind)
    if target == "hdf5":
        pytest.importorskip("h5py")
    converted = convert_dataset(made.root, made.root.with_name("converted"), target)
    for split in ("train", "val", "test"):
        expected, found = (everything(JASPERSteeringDataset(root, split)) for root in (made.root, converted))
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    suffixes = {path.suffix for path in converted.iterdir() if "." in path.name}
    assert {".safetensors": "safetensors", ".pt": "pt", ".h5": "hdf5"}[
        next(iter(suffixes & {".safetensors", ".pt", ".h5"}))
    ] == target


@pytest.mark.slow
def test_pt_is_what_the_original_reads(make: Callable[..., Any]) -> None:
    ours = make("ours", settings={"name": "mine", "steering_fallback_strategy": "centroid"})
    converted = convert_dataset(ours.root, ours.root.with_name("converted"), "pt")
    assert torch.load(converted / "pair_keyword_ids.pt", weights_only=True) == ours.keywords
    for name in ("steering_centroid", "steering_keyword_weighted", "steering_residual"):
        assert torch.load(converted / f"{name}.pt", weights_only=True).shape == (40, 6)
    config = json.loads((converted / "config.json").read_text())
    assert config["storage_format"] == "pt"
    assert not {"format_version", "steering_fallback_strategy", "name"} & set(config)
    assert (converted / "documents.jsonl").read_bytes() == (ours.root / "documents.jsonl").read_bytes()


@pytest.mark.slow
def test_safetensors_have_checksums(original: Any) -> None:
    converted = convert_dataset(original.root, original.root.with_name("converted"))
    config = json.loads((converted / "config.json").read_text())
    assert (config["format_version"], config["storage_format"]) == (1, "safetensors")
    named = json.loads((converted / "checksums.json").read_text())["files"]
    present = {path.name for path in converted.glob("*.safetensors")}
    assert present - set(named) == {"hard_negatives.safetensors", "negative_tiers.safetensors"}


@pytest.mark.slow
def test_whatever_stands_beside_the_tensors_comes_along(ours: Any) -> None:
    for name in ("report.json", ".hidden"):
        (ours.root / name).write_text("{}")
    save_file({"negative_scores": torch.zeros(40, 3)}, ours.root / "negative_scores.safetensors")
    checksums = json.loads((ours.root / "checksums.json").read_text())
    checksums["files"]["report.json"] = hashlib.sha256(b"{}").hexdigest()
    (ours.root / "checksums.json").write_text(json.dumps(checksums))
    converted = convert_dataset(ours.root, ours.root.with_name("converted"))
    named = json.loads((converted / "checksums.json").read_text())["files"]
    assert named.keys() == checksums["files"].keys()
    assert {path.name for path in converted.iterdir()} - named.keys() == {
        *("config.json", "checksums.json", "hard_negatives.safetensors", "negative_tiers.safetensors"),
        "negative_scores.safetensors",
    }


@pytest.mark.slow
def test_weights_survive(ours: Any) -> None:
    pytest.importorskip("h5py")
    copy = convert_dataset(ours.root, ours.root.with_name("copy"))
    h5 = convert_dataset(copy, ours.root.with_name("h5"), "hdf5", compression=None)
    for root in (copy, h5):
        weights = JASPERSteeringDataset(root, "train").pair_keyword_ids.weights
        assert weights is not None
        assert weights.tolist() == [weight for weights in ours.weights for weight in weights]


@pytest.mark.slow
@pytest.mark.parametrize("by_pair", [True, False])
def test_hdf5_beside_the_tensor_files(original: Any, by_pair: bool) -> None:
    pytest.importorskip("h5py")
    expected = everything(JASPERSteeringDataset(original.root, "train"))
    path = convert_pt_to_hdf5(str(original.root), by_pair=by_pair)
    assert path == original.root / "dataset.h5"
    found = everything(JASPERSteeringDataset(original.root, "train", storage_format="hdf5"))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.slow
def test_the_class_converts_relative_paths_too(original: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py")
    monkeypatch.chdir(original.root.parent)
    assert JASPERSteeringDataset.convert_pt_to_hdf5(original.root.name).exists()
    with pytest.raises(InputError, match='Try compression="gzip"'):
        convert_pt_to_hdf5(original.root, compression="zpaq")


def test_what_exists_is_never_overwritten(ours: Any) -> None:
    with pytest.raises(InputError, match="exists already"):
        convert_dataset(ours.root, ours.root)
    with pytest.raises(InputError, match="'csv'; safetensors, pt and hdf5"):
        convert_dataset(ours.root, ours.root.with_name("new"), "csv")  # type: ignore[arg-type]
    assert not ours.root.with_name("new").exists()


def test_texts_lead_back_to_documents(ours: Any) -> None:
    texts = read_texts(ours.root)
    assert [len(part) for part in (texts.documents, texts.questions, texts.keywords, texts.clusters)] == [40, 20, 7, 4]
    assert (texts.documents[7].id, texts.documents[7].text) == ("d7", "source 7")
    assert (texts.questions[3].id, texts.questions[3].text) == ("q3", "question 3")
    assert (texts.keywords[1], texts.clusters[2]) == ("keyword 1", "cluster 2")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("documents.jsonl", '{"_id": "a", "text": "b"}\n', "has 1 entries, 40 are expected"),
        ("documents.jsonl", '{"_id": "a"}\n', "documents.jsonl:1"),
        ("questions.jsonl", '{"text": "b"}\n', "questions.jsonl:1"),
        ("questions.jsonl", "{", "questions.jsonl:1"),
        ("keywords.json", "{}", "a list of strings is expected"),
        ("keywords.json", '["a"]', "has 1 entries, 7 are expected"),
        ("clusters.json", '["a"]', "a list of objects is expected"),
        ("clusters.json", "[{}]", "a list of strings is expected"),
        ("clusters.json", "[", "not valid JSON"),
        ("clusters.json", None, "is missing"),
    ],
)
def test_bad_texts_are_named(ours: Any, name: str, content: str | None, problem: str) -> None:
    path = ours.root / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        read_texts(ours.root)
    assert caught.value.path == path
