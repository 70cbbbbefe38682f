from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.export import numpy_predictor
from jasper_rag.export.export_directory import CARD, MARKER, WRITERS, write_export
from jasper_rag.jasper import Jasper

NUMPY_FILES = ["jasper_predictor.py", "predictor.json", "predictor.safetensors"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_every_format_stands_in_one_folder(bert_jasper: Jasper, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    written = write_export(bert_jasper, tmp_path / "to")
    assert list(written.differences) == list(WRITERS) == list(written.files)
    assert written.left_out == {}
    assert all(difference <= 1e-5 for difference in written.differences.values())
    listed = {name for files in written.files.values() for name in files}
    assert names(tmp_path / "to") == listed | {MARKER, CARD}
    assert json.loads((tmp_path / "to" / MARKER).read_text(encoding="utf-8"))["files"] == dict(written.files)


@pytest.mark.slow
def test_the_card_tells_how_to_use_what_is_there(fitted: Jasper, bert_jasper: Jasper, tmp_path: Path) -> None:
    write_export(fitted, tmp_path / "numpy", ["numpy"])
    card = (tmp_path / "numpy" / CARD).read_text(encoding="utf-8")
    assert card.startswith("# Search vectors for synonyms")
    assert "from jasper_predictor import Predictor" in card
    assert "float32 [n, 24]" in card
    assert "sentence-transformers" not in card
    assert "onnx" not in card
    write_export(bert_jasper, tmp_path / "st", ["sentence-transformers"])
    card = (tmp_path / "st" / CARD).read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "encode_query" in card
    assert "query 'query: ', document 'passage: '" in card
    assert "a = 0.7" in card


def test_what_cannot_be_made_is_left_out_and_said(
    fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    written = write_export(fitted, tmp_path / "to")
    assert list(written.differences) == ["numpy"]
    assert "not a sentence-transformers model" in written.left_out["sentence-transformers"]
    assert 'pip install "jasper-rag[onnx]"' in written.left_out["onnx"]
    assert names(tmp_path / "to") == {*NUMPY_FILES, MARKER, CARD}


def test_what_was_asked_for_must_be_made(fitted: Jasper, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a sentence-transformers model"):
        write_export(fitted, tmp_path / "to", ["numpy", "sentence-transformers"])
    with pytest.raises(InputError, match="there is no format 'tflite'") as caught:
        write_export(fitted, tmp_path / "to", ["numpy", "tflite"])
    assert caught.value.remedy == "Choose from: numpy, sentence-transformers, onnx."
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_an_older_export_is_replaced_whole(fitted: Jasper, bert_jasper: Jasper, tmp_path: Path) -> None:
    write_export(bert_jasper, tmp_path / "to", ["sentence-transformers"])
    (tmp_path / "to" / "__pycache__").mkdir()
    write_export(fitted, tmp_path / "to", ["numpy"])
    assert names(tmp_path / "to") == {*NUMPY_FILES, MARKER, CARD}
    assert names(tmp_path) == {"to"}


def test_an_older_export_survives_a_failure(fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_export(fitted, tmp_path / "to", ["numpy"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numpy_predictor, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_export(fitted, tmp_path / "to", ["numpy"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == before
    assert names(tmp_path) == {"to"}


@pytest.mark.parametrize("stranger", ["notes.txt", "model", ".git"])
def test_a_folder_with_anything_else_is_refused(fitted: Jasper, tmp_path: Path, stranger: str) -> None:
    write_export(fitted, tmp_path / "to", ["numpy"])
    (tmp_path / "to" / stranger).mkdir()
    with pytest.raises(InputError, match=f"holds something that is not an export \\({stranger}\\)") as caught:
        write_export(fitted, tmp_path / "to", ["numpy"])
    assert caught.value.path == tmp_path / "to"
    assert stranger in names(tmp_path / "to")


@pytest.mark.parametrize("marker", ["", "[]", '{"files": []}', '{"files": {"numpy": 3}}'])
def test_a_marker_that_is_not_ours_protects_nothing_from_refusal(fitted: Jasper, tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker, encoding="utf-8")
    with pytest.raises(InputError, match="holds something that is not an export"):
        write_export(fitted, tmp_path, ["numpy"])


def test_files_are_no_places_for_an_export(fitted: Jasper, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file, not a folder"):
            write_export(fitted, place, ["numpy"])
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_written_to(fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="this folder cannot be written to"):
        write_export(fitted, tmp_path / "to", ["numpy"])


def test_an_empty_folder_may_be_filled(fitted: Jasper, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    write_export(fitted, tmp_path / "to", ["numpy"])
    assert MARKER in names(tmp_path / "to")


def test_files_are_as_readable_as_any_new_file(fitted: Jasper, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    write_export(fitted, tmp_path / "to", ["numpy"])
    assert {path.stat().st_mode for path in (tmp_path / "to").iterdir()} == {(tmp_path / "new").stat().st_mode}
