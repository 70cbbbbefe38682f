from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import yaml

from jasper_rag import atomic_moves
from jasper_rag.errors import InputError
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.retrieval.trec import read_run
from jasper_rag.run_directory import require_usable, write_fit
from jasper_rag.text.records import RetrievalSet
from jasper_rag.text.split_file import read_splits
from jasper_rag.text.splitting import ensure_splits

TOP = [
    "config.yaml",
    "metrics.json",
    "metrics.jsonl",
    "model",
    "report.html",
    "runs",
    "splits.json",
    "training_history.csv",
]


@pytest.fixture(scope="module")
def record(fitted: Jasper) -> FitRecord:
    assert fitted.record is not None
    return fitted.record


@pytest.fixture(scope="module")
def divided(synonym_set: RetrievalSet) -> RetrievalSet:
    return ensure_splits(synonym_set, 0)


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Every path below `directory`, hidden ones too, with its bytes; None for a folder."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@pytest.mark.slow
def test_everything_is_written(fitted: Jasper, record: FitRecord, divided: RetrievalSet, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    write_fit(fitted, record, run)
    assert sorted(path.name for path in run.iterdir()) == TOP
    assert JasperConfig.model_validate(yaml.safe_load((run / "config.yaml").read_text())) == load_config(
        overrides=yaml.safe_load((run / "config.yaml").read_text())
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == record.to_metrics()
    assert metrics["trained_on"] == {
        "kind": "labelled",
        "labelled_pairs": 128,
        "pseudo_questions": 0,
        "real_test_questions": 16,
        "chosen": "labelled",
        "dev_ndcg@10": {"labelled": record.candidates.trained.best_ndcg},
    }
    assert sorted(path.name for path in (run / "runs").iterdir()) == sorted(
        f"test.{system}.trec" for system in metrics["systems"]
    )
    assert set(read_run(run / "runs" / "test.hybrid.trec")) == set(divided.qrels["test"])
    assert read_splits(divided, run / "splits.json").qrels == divided.qrels
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert tuple(history) == record.candidates.trained.history
    with (run / "training_history.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == history
    report = (run / "report.html").read_text()
    assert metrics["verdict"].split("(")[0] in report
    assert f"--run {run}" in report
    assert len(Jasper.load(run).model.documents) == 160


@pytest.mark.slow
def test_a_new_run_replaces_an_old_one_and_nothing_else(fitted: Jasper, record: FitRecord, tmp_path: Path) -> None:
    write_fit(fitted, record, tmp_path)
    complete = snapshot(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "metrics.json").write_text("old", encoding="utf-8")
    (tmp_path / "model" / "vectors.safetensors").write_text("old", encoding="utf-8")
    (tmp_path / "runs" / "dev.old.trec").write_text("old", encoding="utf-8")
    write_fit(fitted, record, tmp_path)
    assert snapshot(tmp_path) == complete | {"notes.txt": b"mine"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("jasper.save", OSError(28, "No space left on device")),
        ("write_yaml", OSError(28, "No space left on device")),
        ("write_text", KeyboardInterrupt()),
        ("write_run", ValueError("a score is not finite")),
        ("write_report", KeyboardInterrupt()),
    ],
)
def test_a_failure_leaves_the_old_run_to_the_byte(
    fitted: Jasper,
    record: FitRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
) -> None:
    def fail(*_: object) -> None:
        raise error

    run = tmp_path / "run"
    for old in ("model/jasper.json", "runs/test.plain.trec", "metrics.json", "config.yaml"):
        (run / old).parent.mkdir(parents=True, exist_ok=True)
        (run / old).write_text(f"old {old}", encoding="utf-8")
    before = snapshot(run)
    if step == "jasper.save":
        monkeypatch.setattr(Jasper, "save", fail)
    else:
        monkeypatch.setattr(f"jasper_rag.run_directory.{step}", fail)
    with pytest.raises(type(error)):
        write_fit(fitted, record, run)
    assert snapshot(run) == before
    with pytest.raises(type(error)):
        write_fit(fitted, record, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("swapping", [True, False])
def test_a_failure_in_the_last_move_is_undone(
    fitted: Jasper, record: FitRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapping: bool
) -> None:
    write_fit(fitted, record, tmp_path)
    (tmp_path / "splits.json").unlink()
    (tmp_path / "model" / "old").write_text("old", encoding="utf-8")
    before = snapshot(tmp_path)
    rename, exchange, last = Path.rename, atomic_moves.exchange, tmp_path / "training_history.csv"

    def failing(self: Path, target: Path) -> Path:
        if target == last and self.parent.name == "fresh":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    def failing_swap(one: Path, other: Path) -> bool:
        if swapping and other == last:
            raise OSError(5, "Input/output error")
        return swapping and exchange(one, other)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(atomic_moves, "exchange", failing_swap)
    with pytest.raises(OSError, match="Input/output"):
        write_fit(fitted, record, tmp_path)
    assert snapshot(tmp_path) == before


def test_places_that_cannot_hold_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(InputError, match="is a file, not a folder") as caught:
            require_usable(place)
        assert caught.value.path == tmp_path / "file"
    (tmp_path / "project" / "model").mkdir(parents=True)
    (tmp_path / "project" / "model" / "bridge.stl").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="something else than a model"):
        require_usable(tmp_path / "project")
    require_usable(tmp_path)
    require_usable(tmp_path / "a" / "b")


def test_a_closed_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, not tried: the super-user may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match="cannot be written to"):
        require_usable(tmp_path / "run")


def test_a_relative_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_usable(Path("runs/x"))
    require_usable(Path())
    (tmp_path / "runs").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        require_usable(Path("runs/x"))
