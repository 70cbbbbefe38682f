from __future__ import annotations

import json
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.fitting.split_explanations import SplitExplanations, read_cluster_names
from jasper_rag.training.run_config import RunConfig
from jasper_rag.training.training_run import TrainingRun


@pytest.mark.parametrize(("name", "text"), [("names.json", '["a", "b c"]'), ("names.txt", "a\n b c \n")])
def test_names_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_cluster_names(path, 2) == ("a", "b c")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("names.json", b'["a"', "cannot be read as names"),
        ("names.json", b'{"a": 1}', "names are expected"),
        ("names.json", b'["a", 1]', "names are expected"),
        ("names.txt", b"a\n\nb\n", "none of them empty"),
        ("names.txt", b"\xff\xfe", "cannot be read as names"),
        ("names.txt", b"a\nb\nc\n", "3 names for 2 subspaces"),
        ("names.json", json.dumps(["a"]).encode(), "1 names for 2 subspaces"),
    ],
)
def test_what_holds_no_names_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_cluster_names(path, 2)
    with pytest.raises(InputError, match="no such file"):
        read_cluster_names(tmp_path / "other", 2)


def test_a_plain_run_has_nothing_to_explain(tmp_path: Path) -> None:
    run = TrainingRun(RunConfig(), None, None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got RunConfig"):
        SplitExplanations(run, None, tmp_path)
