from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path, synonym_set: RetrievalSet, word_encoder: Encoder) -> dict[str, Path]:
    """The vectors, ids and judgements of `synonym_set` as files, by flag."""
    paths = {
        "--vectors": tmp_path / "docs.npy",
        "--ids": tmp_path / "ids.txt",
        "--query-vectors": tmp_path / "q.npy",
        "--query-ids": tmp_path / "qids.txt",
        "--qrels": tmp_path / "qrels.tsv",
    }
    np.save(paths["--vectors"], word_encoder.encode([d.content for d in synonym_set.documents], "document"))
    np.save(paths["--query-vectors"], word_encoder.encode([q.text for q in synonym_set.queries], "query"))
    paths["--ids"].write_text("".join(f"{d.id}\n" for d in synonym_set.documents))
    paths["--query-ids"].write_text("".join(f"{q.id}\n" for q in synonym_set.queries))
    lines = [f"{q}\t{d}\t{g}\n" for q, judged in synonym_set.qrels["all"].items() for d, g in judged.items()]
    paths["--qrels"].write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return paths


def flags(files: dict[str, Path], *without: str) -> list[object]:
    return [part for flag, path in files.items() if flag not in without for part in (flag, path)]


@pytest.mark.slow
def test_fits_without_text_or_encoder(
    jasper: Command, files: dict[str, Path], settings: Path, tmp_path: Path, no_encoder: None
) -> None:
    run = tmp_path / "run"
    outcome = jasper("fit", *flags(files), "--output-dir", run, "--config", settings, "--json")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(outcome.out)
    assert set(metrics["systems"]) == {"plain", "linear_adapter", "jasper_ungated", "jasper"}
    assert metrics["systems"]["jasper"]["ndcg@10"] > metrics["systems"]["plain"]["ndcg@10"]
    assert (run / "report.html").stat().st_size > 0
    assert "jasper export" in outcome.err
    answer = jasper("search", "--run", run, "automobile")
    assert answer.code == 2
    assert "fitted on vectors alone" in answer.err


@pytest.mark.slow
def test_texts_beside_the_vectors_bring_bm25(
    jasper: Command, files: dict[str, Path], settings: Path, data: Path, tmp_path: Path, no_encoder: None
) -> None:
    arguments = [*flags(files, "--qrels"), "--data", data, "--output-dir", tmp_path / "run", "--config", settings]
    outcome = jasper("fit", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert {"bm25", "hybrid"} <= set(json.loads(outcome.out)["systems"])


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["--vectors", "--query-vectors", "--qrels"])
def test_half_of_the_files_is_not_enough(jasper: Command, files: dict[str, Path], tmp_path: Path, missing: str) -> None:
    outcome = jasper("fit", *flags(files, missing), "--output-dir", tmp_path / "run")
    assert outcome.code == 2
    assert f"{missing} missing" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_damaged_files_are_named(jasper: Command, files: dict[str, Path], tmp_path: Path) -> None:
    files["--ids"].write_text("one\ntwo\n")
    outcome = jasper("fit", *flags(files), "--output-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "ids.txt" in outcome.err
    assert "160 vectors" in outcome.err


@pytest.mark.slow
def test_too_few_judgements_are_refused(jasper: Command, files: dict[str, Path], tmp_path: Path) -> None:
    kept = files["--qrels"].read_text().splitlines()[:11]
    files["--qrels"].write_text("\n".join(kept) + "\n")
    outcome = jasper("fit", *flags(files), "--output-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "10 labelled pairs" in outcome.err
