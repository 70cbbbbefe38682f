from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file

from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.jasper import Jasper
from jasper_rag.metrics.judgements import Judgements

# Gives the questions back, three times as long, for as many epochs as asked; a rate reverses their dimensions instead.
STAND_IN = """
import json, os, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file, save_file
folder = Path(sys.argv[1])
vectors = load_file(folder / "vectors.safetensors")
for number, run in enumerate(json.loads((folder / "request.json").read_text())["runs"]):
    given = {s: vectors[s] if run["learning_rate"] is None else vectors[s][:, ::-1] for s in ("dev", "test")}
    adapted = {s: np.ascontiguousarray(np.stack([3 * v] * run["epochs"])) for s, v in given.items()}
    save_file(adapted, folder / f"{number}.safetensors")
    (folder / f"{number}.json").write_text(json.dumps({"cpu_seconds": 2.0 + number, "wall_seconds": 9.0}))
(folder / "environment.json").write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def run(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a stand-in for the peer."""
    module = script("run")
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(module, "PEER_SCRIPT", stand_in)
    return module


@pytest.fixture
def embedded(fitted: Jasper) -> EmbeddedSet:
    assert fitted.record is not None
    return fitted.record.embedded


def test_scores_are_those_of_the_comparison(run: ModuleType, fitted: Jasper, embedded: EmbeddedSet) -> None:
    assert fitted.record is not None
    test = embedded.splits["test"].vectors
    for key, vectors in {"plain": test, "jasper": fitted.transform(test)}.items():
        found = run.score(embedded, "test", vectors)
        expected = fitted.record.comparison.runs[key].values
        assert set(found) == set(expected)
        for metric, values in found.items():
            np.testing.assert_array_equal(values, expected[metric])


@pytest.mark.slow
def test_the_peer_gets_our_vectors_and_pairs(
    run: ModuleType, embedded: EmbeddedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    asked = [run.PeerRun(2), run.PeerRun(3, 0.1, shuffled=True)]
    answers = run.ask_peer(embedded, asked, 7, Path(sys.executable), tmp_path)
    vectors = load_file(tmp_path / "vectors.safetensors")
    np.testing.assert_array_equal(vectors["documents"], embedded.vectors.vectors)
    for split in ("train", "dev", "test"):
        np.testing.assert_array_equal(vectors[split], embedded.splits[split].vectors)
    request = json.loads((tmp_path / "request.json").read_text(encoding="utf-8"))
    assert [run["shuffle_seed"] for run in request["runs"]] == [None, 7]
    judged = embedded.splits["train"].judgements
    assert request["relevant"] == [judged.positives(row).tolist() for row in range(len(judged))]
    environment = json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))
    assert "PYTHONPATH" not in environment
    assert environment["OMP_NUM_THREADS"] == "1"
    assert [len(answer.test) for answer in answers] == [2, 3]
    np.testing.assert_allclose(answers[0].test[1], embedded.splits["test"].vectors, atol=1e-6)


def test_a_question_without_a_document_is_no_pair(run: ModuleType, embedded: EmbeddedSet) -> None:
    train = embedded.splits["train"]
    missing = train.judgements.documents.copy()
    missing[0] = -2  # as of a document outside the corpus
    judgements = Judgements(train.judgements.indptr, missing, train.judgements.grades)
    vectors, relevant = run.train_pairs(replace(embedded, splits={"train": replace(train, judgements=judgements)}))
    np.testing.assert_array_equal(vectors, train.vectors[1:])
    assert len(relevant) == len(train) - 1
    assert all(relevant)


@pytest.mark.slow
def test_all_systems_are_measured(run: ModuleType, fitted: Jasper) -> None:
    found = run.measure(fitted, 0, Path(sys.executable), run.TUNED)
    assert list(found["systems"]) == list(run.SYSTEMS)
    systems = found["systems"]
    for metric in ("ndcg@10", "recall@10", "mrr@10"):
        assert systems["llamaindex"][metric] == systems["plain"][metric]
    assert [systems[key]["train_seconds"] for key in ("llamaindex", "llamaindex_tutorial")] == [2.0, 3.0]
    assert systems["llamaindex_tuned"]["train_seconds"] == 4.0 + 5.0 + 6.0
    assert systems["jasper"]["times_ours"] == 1.0
    assert systems["jasper"]["p_value"] is None
    assert systems["plain"]["p_value"] < 0.05
    assert [len(one["dev_ndcg@10"]) for one in found["peer_runs"]] == [1, 4, 10, 10, 10]


@pytest.mark.slow
def test_tuning_falls_back_on_the_question(run: ModuleType, fitted: Jasper) -> None:
    # Reversed dimensions find nothing, and a longer question is the question.
    found = run.measure(fitted, 0, Path(sys.executable), (run.PeerRun(3, 0.1),))
    assert found["tuned"] is None
    assert found["systems"]["llamaindex_tuned"]["ndcg@10"] == found["systems"]["plain"]["ndcg@10"]
    assert "beat the plain question on dev" in run.table("synonyms", [found])


def test_a_peer_that_fails_is_an_error(
    run: ModuleType, fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PEER_SCRIPT", tmp_path / "missing.py")
    with pytest.raises(subprocess.CalledProcessError):
        run.measure(fitted, 0, Path(sys.executable), ())


@pytest.mark.parametrize(
    ("curves", "plain", "expected"),
    [
        ([[0.1, 0.3], [0.3, 0.2]], 0.2, (0, 1)),
        ([[0.1, 0.3], [0.4, 0.4]], 0.2, (1, 0)),
        ([[0.1, 0.3], [0.3, 0.2]], 0.3, None),
    ],
)
def test_dev_chooses(
    run: ModuleType, curves: list[list[float]], plain: float, expected: tuple[int, int] | None
) -> None:
    assert run.choose(curves, plain) == expected


def test_the_environment_is_made_once(run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[Path] = []
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("one==1\n", encoding="utf-8")
    monkeypatch.setattr(run, "REQUIREMENTS", requirements)
    monkeypatch.setattr(run.venv, "create", lambda folder, with_pip: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(run.subprocess, "run", lambda command, check: installed.append(command[-1]))
    for _ in range(2):
        assert run.peer_python(tmp_path / "environment") == tmp_path / "environment/bin/python"
    assert installed == [requirements]
    requirements.write_text("one==2\n", encoding="utf-8")
    run.peer_python(tmp_path / "environment")
    assert len(installed) == 2


def test_an_installation_that_fails_is_tried_again(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[object], check: bool) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(run.venv, "create", lambda folder, with_pip: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(run.subprocess, "run", fail)
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            run.peer_python(tmp_path / "environment")


def test_the_requirements_are_pinned(run: ModuleType) -> None:
    lines = run.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    # The engine's code is held to what the library itself is tested with.
    ours = (run.HERE.parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    shared = [pin for pin in pins if not pin.startswith(("llama-index", "mistralai"))]
    assert shared
    assert [pin for pin in shared if pin not in ours] == []


@pytest.mark.slow
def test_tables_and_figures_are_written(
    run: ModuleType,
    fitted: Jasper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str | Path | int, ...]] = []

    def fit(*given: str | Path | int) -> Jasper:
        asked.append(given)
        return fitted

    monkeypatch.setattr(run, "fit", fit)
    monkeypatch.setattr(run, "peer_python", lambda environment: Path(sys.executable))
    output = tmp_path / "peers.json"
    given = ["--data-root", str(tmp_path), "--sets", "synonyms", "--seeds", "0", "1", "--untuned"]
    run.main([*given, "--output", str(output)])
    assert asked == [("synonyms", tmp_path, 0), ("synonyms", tmp_path, 1)]
    results = json.loads(output.read_text(encoding="utf-8"))["synonyms"]
    assert [one["seed"] for one in results] == [0, 1]
    shown = capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| "): line for line in shown.splitlines() if line.startswith("| ")}
    assert "LlamaIndex engine, tuned on dev" not in rows
    assert "Tuned:" not in shown
    assert f"| {results[0]['systems']['plain']['ndcg@10']:.3f} |" in rows["LlamaIndex engine, its defaults"]
    assert " 2 seeds" in shown


def test_ours_is_fitted_on_labelled_pairs_alone(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "read_python_source", lambda: "the standard library")
    monkeypatch.setattr(run.Jasper, "fit", lambda retrieval_set, config: (retrieval_set, config))
    retrieval_set, config = run.fit("stdlib", Path("data"), 5)
    assert retrieval_set == "the standard library"
    assert (config.seed, config.encoder.max_seq_length) == (5, 128)
    assert config.pseudo_questions.use == "never"


def test_the_tuned_run_is_described(run: ModuleType) -> None:
    chosen = {"epochs": 3, "learning_rate": 2e-4, "shuffled": True}
    assert run._described(chosen) == "epoch 3, rate 0.0002, pairs shuffled"
    plainer = {"epochs": 1, "learning_rate": None, "shuffled": False}
    assert run._described(plainer) == "epoch 1, default rate, pairs in file order"
