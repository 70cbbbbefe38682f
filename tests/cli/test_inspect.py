from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.build.dataset_files import EXTRA_FILES
from jasper_rag.cli.tables import plain
from jasper_rag.data.conversion import convert_dataset
from jasper_rag.dataset_layout import TEXT_FILES

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def dataset(jasper: Command, data: Path, word_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset; shared, so leave it as it is."""
    root = tmp_path_factory.mktemp("datasets") / "synonyms"
    flags = ["--data", data, "--encoder", word_model, "--n-neg", 4, "--n-clusters", 20, "-q"]
    assert jasper("build", *flags, "--output-dir", root).code == 0
    return root


def test_figures_on_stdout(jasper: Command, dataset: Path) -> None:
    outcome = jasper("inspect", dataset)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("synonyms: 160 pairs, 160 questions, 160 sources, 20 topics, ")
    assert lines[1].startswith("safetensors, ")
    assert "24 dimensions, encoder " in lines[1]
    assert any(line.split() == ["train", "128", "128", "128"] for line in lines)
    assert any(line.split() == ["val", "16", "16", "16", "0", "0"] for line in lines)
    assert "and 8 smaller ones" in lines
    assert any(line.startswith("in-cluster  ") and line.split()[1].endswith("%") for line in lines)
    assert any(line.split() == ["zero", "50.0%", "10.0%"] for line in lines)
    assert sum(line.startswith("  topic: ") for line in lines) == 3
    assert sum(line.split()[1:2] == ["similar"] for line in lines) == 3


@pytest.mark.slow
def test_json_on_stdout_and_a_page(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = jasper("inspect", dataset, "--json", "--output", page)
    assert outcome.code == 0
    assert outcome.err.strip() == f"page: {page}"
    summary = json.loads(outcome.out)
    assert (summary["counts"]["pairs"], len(summary["clusters"]), len(summary["samples"])) == (160, 20, 3)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    again = jasper("inspect", dataset, "--output", page, "--quiet")
    assert (again.code, again.err) == (0, "")


@pytest.mark.slow
def test_a_directory_of_the_original_project(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    root = convert_dataset(dataset, tmp_path / "foreign", "pt")
    for name in (*TEXT_FILES, *EXTRA_FILES):
        (root / name).unlink()
    (root / "test_idx.pt").unlink()
    outcome = jasper("inspect", root, "--output", tmp_path / "page.html")
    assert outcome.code == 0, outcome.err
    assert "pt of the original project" in outcome.out
    assert "no texts are kept here" in outcome.out
    assert "encoder not kept" in outcome.out
    assert "warning: the test split is missing" in outcome.out
    assert "cluster 0" in outcome.out
    assert "This directory keeps no texts" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_no_dataset_or_damaged(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    nowhere = jasper("inspect", tmp_path / "nowhere")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "there is no such directory" in nowhere.err
    empty = jasper("inspect", tmp_path)
    assert empty.code == 2
    assert "config.json" in empty.err
    damaged = Path(shutil.copytree(dataset, tmp_path / "damaged"))
    with open(damaged / "source_embs.safetensors", "r+b") as file:
        file.truncate(2_000)
    cut = jasper("inspect", damaged, "--output", tmp_path / "page.html")
    assert (cut.code, cut.out) == (2, "")
    assert "source_embs.safetensors" in cut.err
    assert "Traceback" not in cut.err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_texts_of_others_do_not_steer_the_terminal(jasper: Command, dataset: Path, tmp_path: Path) -> None:
    assert plain("a\x1b[2Jb\n c\u202e\ud800 [red]d[/red]") == "a [2Jb c [red]d[/red]"
    assert plain("one two three", 10) == "one ..."
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    clusters = json.loads((root / "clusters.json").read_text())
    for cluster in clusters:
        cluster["name"] = "\x1b[31mred[/bold]" + cluster["name"]
    (root / "clusters.json").write_text(json.dumps(clusters))
    checksums = json.loads((root / "checksums.json").read_text())
    del checksums["files"]["clusters.json"]
    (root / "checksums.json").write_text(json.dumps(checksums))
    outcome = jasper("inspect", root)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert "[31mred[/bold]" in outcome.out
