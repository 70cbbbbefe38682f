from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.embedding.gaussian_checkpoint import write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.text.pair_files import EvaluationSet, write_evaluation_set
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]
METRICS = ["MAP@100", "MRR", "NDCG@10", "Recall@1", "Recall@10", "Recall@100", "Recall@20", "Recall@5", "Recall@50"]


@pytest.fixture(scope="module")
def checkpoint(word_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "best_model.pt"
    model = GaussianEmbeddingGemma(16, str(word_model), freeze_base=True, device="cpu")
    write_gaussian_checkpoint(path, model.state())
    return path


@pytest.fixture(scope="module")
def test_eval(synonym_set: RetrievalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processed") / "test_eval.json"
    corpus = tuple(document.content for document in synonym_set.documents)
    queries = tuple(query.text for query in synonym_set.queries)
    write_evaluation_set(path, EvaluationSet(corpus, queries, tuple((row,) for row in range(len(queries)))))
    return path


def test_the_documented_command(jasper: Command, checkpoint: Path, test_eval: Path, tmp_path: Path) -> None:
    output = tmp_path / "results" / "eval_results.json"
    flags = ["--model_path", checkpoint, "--test_data", test_eval, "--batch_size", 32, "--top_k", 100]
    outcome = jasper("evaluate-encoder", *flags, "--output_file", output)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "test_eval: 160 queries, 160 documents"
    assert [line.split("  ")[0] for line in lines[2:8]] == [
        *("this model (L2)", "its base model (cosine)", "BM25", "RRF: this model + BM25"),
        *("base, centred", "base, whitened"),
    ]
    assert all(len(line) <= 120 for line in lines[:-1])
    assert lines[-1].startswith("This model ")
    assert f"wrote {output}" in outcome.err
    assert "next:\n  " in outcome.err
    result = json.loads(output.read_text())
    assert list(result)[:3] == ["model_path", "test_data", "metrics"]
    assert (result["model_path"], result["test_data"]) == (str(checkpoint), str(test_eval))
    assert sorted(result["metrics"]) == METRICS
    assert result["config"]["output_dim"] == 16
    assert result["config"]["top_k"] == 100
    assert set(result) >= {"baselines", "significance", "geometry", "verdict", "config"}


@pytest.mark.slow
def test_dashes_a_beir_directory_and_json(jasper: Command, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    flags = ["--model-path", checkpoint, "--test-data", data, "--split", "all", "--json", "--quiet"]
    outcome = jasper("evaluate-encoder", *flags, "--per-query", tmp_path / "q.jsonl", "--output-dim", 16)
    assert (outcome.code, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    assert (result["task"], result["config"]["split"]) == ("synonyms, all split", "all")
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 160
    again = jasper("evaluate-encoder", *flags, "--per_query", tmp_path / "run.trec")
    assert again.code == 0
    assert len((tmp_path / "run.trec").read_text().splitlines()) == 160 * 100


@pytest.mark.slow
def test_the_base_model_may_have_moved(jasper: Command, word_model: Path, test_eval: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(word_model, tmp_path / "base")
    path = tmp_path / "best_model.pt"
    model = GaussianEmbeddingGemma(16, str(tmp_path / "base"), freeze_base=True, device="cpu")
    write_gaussian_checkpoint(path, model.state())
    (tmp_path / "base").rename(moved)
    flags = ["evaluate-encoder", "--model_path", path, "--test_data", test_eval, "--offline", "--json"]
    assert jasper(*flags).code == 2
    found = jasper(*flags, "--base_model", moved)
    assert found.code == 0, found.err
    assert json.loads(found.out)["config"]["base_model"] == str(moved)


@pytest.mark.slow
def test_the_bridge_to_fit_and_search(
    jasper: Command, checkpoint: Path, data: Path, settings: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    fit = jasper("fit", "--data", data, "--encoder", checkpoint, "--output-dir", run, "--config", settings, "-q")
    assert fit.code == 0, fit.err
    found = jasper("search", "--run", run, "automobile or road?", "--json", "--offline")
    assert found.code == 0, found.err
    write_gaussian_checkpoint(tmp_path / "other.pt", {})
    checked = jasper("fit", "--data", data, "--encoder", tmp_path / "other.pt", "--output-dir", tmp_path / "r2")
    assert checked.code == 2
    assert "lacks model_state_dict" in checked.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--model_path": "nothing.pt"}, "there is no checkpoint here"),
        ({"--test_data": "nothing.json"}, "there is no test data here"),
        ({"--output_dim": 512}, "has embeddings of 16 dimensions, not 512"),
        ({"--per_query": "q.csv"}, "names no format"),
        ({"--output_file": "."}, "is a folder"),
        ({"--output_file": ""}, "an empty path was given"),
        ({"--device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"--language": "klingon"}, "klingon"),
        ({"--top_k": 0}, "top-k"),
    ],
)
def test_bad_input_is_code_2(
    jasper: Command,
    checkpoint: Path,
    test_eval: Path,
    changes: dict[str, object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--model_path": checkpoint, "--test_data": test_eval, "--output_file": "out.json"} | changes
    outcome = jasper("evaluate-encoder", *(part for pair in given.items() for part in pair))
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_script_is_the_verb(repository: Path) -> None:
    script = repository / "scripts" / "evaluate.py"
    found = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    for flag in ("--model-path", "--test-data", "--batch-size", "--top-k", "--output-file", "--per-query"):
        assert flag in found.stdout
