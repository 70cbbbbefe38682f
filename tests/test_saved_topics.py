"""The topics of a saved model; models of the format before have none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.saved_model import DESCRIPTION, read_model, write_model


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


def test_a_model_without_topics(fitted: Jasper, tmp_path: Path) -> None:
    write_model(dataclasses.replace(fitted.model, topics=None), tmp_path / "model")
    assert not (tmp_path / "model" / "topics.safetensors").exists()
    assert read_model(tmp_path / "model").topics is None


def test_a_model_of_the_format_before_has_no_topics(fitted: Jasper, folder: Path) -> None:
    (folder / "topics.safetensors").unlink()
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    description["format_version"] = 2
    del description["topics"], description["sha256"]["topics.safetensors"], description["config"]["topics"]
    del description["content_sha256"]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(description | {"content_sha256": digest}), encoding="utf-8")
    old = Jasper.load(folder, encoder=fitted.encoder)
    assert (old.model.topics, old.topics) == (None, ())
    assert old.search("car or film") == fitted.search("car or film")
    with pytest.raises(InputError, match="has no topics") as caught:
        old.search("car or film", steer="#1")
    assert "jasper fit" in caught.value.remedy


def test_documents_and_topics_must_be_as_many(fitted: Jasper, tmp_path: Path) -> None:
    topics = fitted.model.topics
    assert topics is not None
    short = dataclasses.replace(topics, assignment=topics.assignment[:-1])
    write_model(dataclasses.replace(fitted.model, topics=short), tmp_path / "model")
    with pytest.raises(InputError, match="160 documents but topics of 159"):
        read_model(tmp_path / "model")
