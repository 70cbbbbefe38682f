from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
import yaml

from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.retrieval.trec import read_run

Command = Callable[..., Any]

SYSTEMS = [
    "plain",
    "bm25",
    "rrf",
    "fusion",
    "linear_adapter",
    "jasper_ungated",
    "jasper",
    "rrf_jasper",
    "hybrid",
]
FILES = {
    "config.yaml",
    "metrics.json",
    "metrics.jsonl",
    "model/corpus.jsonl",
    "model/corpus_gate.safetensors",
    "model/gate.safetensors",
    "model/jasper.json",
    "model/known_pairs.jsonl",
    "model/known_pairs.safetensors",
    "model/lexical/lexical.json",
    "model/lexical/postings.safetensors",
    "model/predictor.safetensors",
    "model/topics.safetensors",
    "model/vectors.safetensors",
    "report.html",
    "splits.json",
    "training_history.csv",
    *(f"runs/test.{system}.trec" for system in SYSTEMS),
}


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`, hidden ones too, with its bytes."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def timeless(metrics: str | bytes) -> str:
    """metrics.json without the CPU seconds, which no seed can fix."""
    values = json.loads(metrics)
    for figures in values["systems"].values():
        del figures["train_seconds"]
    return json.dumps(values)


def test_the_run_directory_holds_exactly_this(fitting: tuple[Path, Any]) -> None:
    run, outcome = fitting
    assert outcome.code == 0, outcome.err
    assert set(files_of(run)) == FILES


def test_stdout_is_the_table_and_stderr_the_talk(fitting: tuple[Path, Any]) -> None:
    run, outcome = fitting
    metrics = json.loads((run / "metrics.json").read_text())
    assert outcome.out.splitlines()[0].rstrip() == "synonyms, test split: 16 questions"
    assert outcome.out.splitlines()[-1] == metrics["verdict"]
    assert len(outcome.out.splitlines()) == 2 + len(SYSTEMS) + 7 + 2  # with the table of topics
    assert f"{metrics['systems']['hybrid']['ndcg@10']:.3f}" in outcome.out
    assert "synonyms: 160 documents, 128 train questions, 16 dev questions, 16 test questions" in outcome.err
    assert "Leaks between splits: none found" in outcome.err
    assert f"report: {run}/report.html" in outcome.err
    assert f'jasper search --run {run} "your question"' in outcome.err


def test_it_learns(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["systems"]) == SYSTEMS
    assert metrics["alpha"] > 0
    assert metrics["systems"]["jasper"]["ndcg@10"] > metrics["systems"]["plain"]["ndcg@10"] + 0.5
    assert (metrics["dataset"], metrics["split"], metrics["seed"]) == ("synonyms", "test", 0)
    trained = {key for key, figures in metrics["systems"].items() if figures["train_seconds"] > 0}
    assert trained == {"linear_adapter", "jasper_ungated", "jasper", "rrf_jasper", "hybrid"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_run_files_give_the_metrics(run: Path, data: Path, system: str) -> None:
    splits = json.loads((run / "splits.json").read_text())["splits"]
    answers = dict(line.split("\t")[:2] for line in (data / "qrels" / "all.tsv").read_text().splitlines()[1:])
    qrels = {query: {answers[query]: 1} for query in splits["test"]}
    found = read_run(run / "runs" / f"test.{system}.trec")
    values = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recall_10"}).evaluate(found)
    figures = json.loads((run / "metrics.json").read_text())["systems"][system]
    for theirs, ours in (("ndcg_cut_10", "ndcg@10"), ("recall_10", "recall@10")):
        # A query without a hit is not in a run file; it counts 0.
        assert sum(value[theirs] for value in values.values()) / len(qrels) == pytest.approx(figures[ours], abs=1e-6)


def test_splits_share_nothing_and_hold_everything(run: Path) -> None:
    splits = json.loads((run / "splits.json").read_text())["splits"]
    assert sorted(query for queries in splits.values() for query in queries) == sorted(
        f"q{number}" for number in range(160)
    )


@pytest.mark.slow
def test_the_saved_settings_give_the_same_run(jasper: Command, run: Path, data: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    outcome = jasper("fit", "--data", data, "--output_dir", again, "--config", run / "config.yaml")
    assert outcome.code == 0, outcome.err
    first, second = files_of(run), files_of(again)
    assert timeless(first["metrics.json"]) == timeless(second["metrics.json"])
    # The report shows where it lies and how long training took; all else is the same to the byte.
    for name in set(first) - {"metrics.json", "report.html"}:
        assert second[name] == first[name], name


@pytest.mark.slow
def test_flags_override_the_file_and_reach_the_saved_settings(
    jasper: Command, word_model: Path, settings: Path, data: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    values = yaml.safe_load(settings.read_text())
    config.write_text(yaml.safe_dump(values | {"encoder": {"name": "not/this"}, "seed": 3, "language": "german"}))
    run = tmp_path / "my_run"
    arguments = ["--encoder", word_model, "--seed=1", "--language", "none", f"--output_dir={run}"]
    outcome = jasper("fit", "--data", data, "--config", config, *arguments)
    assert outcome.code == 0, outcome.err
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert (saved["encoder"]["name"], saved["seed"], saved["language"]) == (str(word_model), 1, "none")
    assert saved["training"]["steps"] == values["training"]["steps"]
    assert json.loads((run / "metrics.json").read_text())["seed"] == 1


@pytest.mark.slow
def test_json_is_all_of_stdout_and_quiet_is_silent(jasper: Command, data: Path, settings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = jasper("fit", "--data", data, "--output-dir", run, "--config", settings, "--json", "--quiet")
    assert outcome.code == 0
    assert outcome.err == ""
    assert json.loads(outcome.out) == json.loads((run / "metrics.json").read_text())


@pytest.mark.slow
def test_a_second_run_takes_the_place_of_the_first(
    jasper: Command, run: Path, data: Path, settings: Path, tmp_path: Path
) -> None:
    target = Path(shutil.copytree(run, tmp_path / "run"))
    outcome = jasper("fit", "--data", data, "--output-dir", target, "--config", settings, "--seed", 7, "-q")
    assert outcome.code == 0, outcome.err
    assert set(files_of(target)) == FILES
    assert json.loads((target / "metrics.json").read_text())["seed"] == 7
    assert yaml.safe_load((target / "config.yaml").read_text())["seed"] == 7
    # Seed 7 divides the questions in another way, and all files speak of that division.
    asked = set(read_run(target / "runs" / "test.plain.trec"))
    assert asked == set(json.loads((target / "splits.json").read_text())["splits"]["test"])
    assert asked != set(read_run(run / "runs" / "test.plain.trec"))


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def disk_full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device", "/runs/x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "failure", "code", "message"),
    [
        ("jasper_rag.training.candidates.train_predictor", interrupted, 130, "jasper: interrupted"),
        ("jasper_rag.run_directory.write_report", interrupted, 130, "jasper: interrupted"),
        ("jasper_rag.run_directory.write_report", disk_full, 1, "No space left on device: it takes more"),
    ],
)
def test_a_run_that_fails_late_leaves_the_old_one_to_the_byte(
    jasper: Command,
    run: Path,
    data: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    failure: Callable[..., None],
    code: int,
    message: str,
) -> None:
    before = files_of(run)
    monkeypatch.setattr(target, failure)
    outcome = jasper("fit", "--data", data, "--output-dir", run, "--config", settings)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert files_of(run) == before


@pytest.mark.slow
def test_an_encoder_that_fails_in_the_middle_leaves_the_old_run(
    jasper: Command, run: Path, damaged: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(run)
    with (damaged / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "new", "text": "a text that no cache holds"}\n')

    def fail(*_: object) -> None:
        raise RuntimeError("the accelerator is gone")

    monkeypatch.setattr(SentenceEncoder, "encode", fail)
    with pytest.raises(RuntimeError, match="accelerator"):
        jasper("fit", "--data", damaged, "--output-dir", run, "--config", settings)
    assert files_of(run) == before


@pytest.mark.slow
def test_words_that_the_encoder_does_not_know(jasper: Command, damaged: Path, settings: Path, tmp_path: Path) -> None:
    with (damaged / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "new", "text": "xylophone"}\n')
    outcome = jasper("fit", "--data", damaged, "--output-dir", tmp_path / "run", "--config", settings)
    assert outcome.code == 2
    assert "returned a vector of zeros for text" in outcome.err
    assert "xylophone" in outcome.err
    assert not (tmp_path / "run").exists()
