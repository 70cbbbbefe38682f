"""The topics of a saved model and routing to them; models of earlier formats lack one or both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.topic_router import Routing, TopicRouter
from jasper_rag.serving.saved_model import DESCRIPTION, FORMAT_VERSION, read_model, write_model


@pytest.fixture
def folder(fitted: Jasper, tmp_path: Path) -> Path:
    write_model(fitted.model, tmp_path / "saved")
    return tmp_path / "saved"


def test_topics_survive(fitted: Jasper, folder: Path) -> None:
    read, written = read_model(folder).topics, fitted.model.topics
    assert read is not None
    assert written is not None
    assert (read.names, read.terms) == (written.names, written.terms)
    np.testing.assert_array_equal(read.centroids, written.centroids)
    np.testing.assert_array_equal(read.assignment, written.assignment)


@pytest.mark.slow
def test_routing_survives(fitted: Jasper, tmp_path: Path) -> None:
    usual = np.linspace(0.5, 2, 9, dtype=np.float32)
    for routing in (fitted.model.routing, Routing(TopicRouter(0.05, 1.5, 0.01), 1.5, usual, True), Routing()):
        write_model(dataclasses.replace(fitted.model, routing=routing), tmp_path / "model")
        read = read_model(tmp_path / "model").routing
        assert (read.router, read.bonus, read.follow) == (routing.router, routing.bonus, routing.follow)
        np.testing.assert_array_equal(read.usual, routing.usual)
        assert read.usual.dtype == np.float32
    assert len(fitted.model.routing.usual) == 257
    loaded = Jasper(dataclasses.replace(fitted.model, routing=Routing()), fitted.encoder)
    again = Jasper.load(tmp_path / "model", encoder=fitted.encoder)
    for steer in (None, "#3"):
        assert again.search("car or film", steer=steer) == loaded.search("car or film", steer=steer)
    assert again.offered_topics("car or film") == loaded.offered_topics("car or film")


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return found


def rewrite(folder: Path, description: dict[str, Any]) -> None:
    """With checksums that are right again."""
    for name in list(description["sha256"]):
        description["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    description.pop("content_sha256", None)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(description | {"content_sha256": digest}), encoding="utf-8")


@pytest.mark.slow
def test_a_model_of_format_3_routes_uncalibrated(fitted: Jasper, folder: Path) -> None:
    arrays = load_file(folder / "topics.safetensors")
    del arrays["usual_atypicality"]
    save_file(arrays, folder / "topics.safetensors")
    description = described(folder)
    description["format_version"] = 3
    del description["routing"]
    rewrite(folder, description)
    old = Jasper.load(folder, encoder=fitted.encoder)
    routing = old.model.routing
    assert (routing.router, routing.bonus, routing.follow) == (TopicRouter(), 1.0, False)
    assert len(routing.usual) == 0
    assert [topic.name for topic in old.topics] == [topic.name for topic in fitted.topics]
    assert len(old.search("car or film", steer="#3")) == 10
    old.save(folder)
    assert described(folder)["format_version"] == FORMAT_VERSION


@pytest.mark.parametrize(
    "change", [{"temperature": 0}, {"bonus": None}, {"calibration": "x"}, {"floor": -1.0}], ids=str
)
def test_routing_that_cannot_be_is_refused(folder: Path, change: dict[str, Any]) -> None:
    description = described(folder)
    for name, value in change.items():
        description["routing"][name] = value
        if value is None:
            del description["routing"][name]
    rewrite(folder, description)
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_model(folder)
    assert "jasper fit" in caught.value.remedy


@pytest.mark.slow
def test_a_model_without_topics(fitted: Jasper, tmp_path: Path) -> None:
    write_model(dataclasses.replace(fitted.model, topics=None), tmp_path / "model")
    assert not (tmp_path / "model" / "topics.safetensors").exists()
    assert read_model(tmp_path / "model").topics is None


def test_a_model_of_format_2_has_no_topics(fitted: Jasper, folder: Path) -> None:
    (folder / "topics.safetensors").unlink()
    description = described(folder)
    description["format_version"] = 2
    del description["topics"], description["sha256"]["topics.safetensors"], description["config"]["topics"]
    del description["routing"]
    rewrite(folder, description)
    old = Jasper.load(folder, encoder=fitted.encoder)
    assert (old.model.topics, old.topics) == (None, ())
    assert old.search("car or film") == fitted.search("car or film")
    with pytest.raises(InputError, match="has no topics") as caught:
        old.search("car or film", steer="#1")
    assert "jasper fit" in caught.value.remedy


@pytest.mark.slow
def test_documents_and_topics_must_be_as_many(fitted: Jasper, tmp_path: Path) -> None:
    topics = fitted.model.topics
    assert topics is not None
    short = dataclasses.replace(topics, assignment=topics.assignment[:-1])
    write_model(dataclasses.replace(fitted.model, topics=short), tmp_path / "model")
    with pytest.raises(InputError, match="160 documents but topics of 159"):
        read_model(tmp_path / "model")
