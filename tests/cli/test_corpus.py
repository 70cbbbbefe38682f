from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.jasper import Jasper

Command = Callable[..., Any]

NEW = [{"_id": "n1", "text": "a yacht and a dinghy"}, {"_id": "n2", "text": "lorry and street and autumn"}]


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def new_documents(tmp_path: Path) -> Path:
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in NEW), encoding="utf-8")
    return path


def ids(run: Path) -> list[str]:
    return [document.id for document in Jasper.load(run).model.documents]


def test_added_documents_are_found_and_removed_ones_are_not(
    jasper: Command, own_run: Path, new_documents: Path
) -> None:
    before = ids(own_run)
    outcome = jasper("add", "--run", own_run, "--data", new_documents)
    assert outcome.code == 0
    assert f"2 documents more, {len(before) + 2} in all" in outcome.err
    assert ids(own_run) == [*before, "n1", "n2"]
    found = json.loads(jasper("search", "--run", own_run, "lorry street autumn", "--json").out)
    assert found["hits"][0]["id"] == "n2"
    outcome = jasper("remove", "--run", own_run, "n2", before[0])
    assert (outcome.code, f"2 documents less, {len(before)} left" in outcome.err) == (0, True)
    assert ids(own_run) == [*before[1:], "n1"]


@pytest.mark.slow
def test_ids_to_remove_from_a_file(jasper: Command, own_run: Path, tmp_path: Path) -> None:
    before = ids(own_run)
    (tmp_path / "gone.txt").write_text(f"{before[3]}\n\n{before[5]}\n")
    assert jasper("remove", "--run", own_run, "--ids", tmp_path / "gone.txt").code == 0
    assert set(before) - set(ids(own_run)) == {before[3], before[5]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["remove"], "[ids]: no id was given"),
        (["remove", "nowhere"], "'nowhere'"),
        (["add", "--data", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_bad_changes_change_nothing(jasper: Command, own_run: Path, arguments: list[str], message: str) -> None:
    before = {path: path.read_bytes() for path in own_run.rglob("*") if path.is_file()}
    outcome = jasper(arguments[0], "--run", own_run, *arguments[1:])
    assert outcome.code == 2
    assert message in outcome.err
    assert {path: path.read_bytes() for path in own_run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_known_id_is_refused(jasper: Command, own_run: Path, new_documents: Path) -> None:
    assert jasper("add", "--run", own_run, "--data", new_documents).code == 0
    outcome = jasper("add", "--run", own_run, "--data", new_documents)
    assert outcome.code == 2
    assert "document id 'n1' is already in the corpus" in outcome.err
