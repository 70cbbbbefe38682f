from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from jasper_rag import atomic_moves
from jasper_rag.embedding.checksums import file_sha256
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import Guard
from jasper_rag.serving.saved_model import DESCRIPTION, read_model, require_replaceable, write_model
from jasper_rag.text.records import Document

FILES = [
    "corpus.jsonl",
    "corpus_gate.safetensors",
    "gate.safetensors",
    "jasper.json",
    "known_pairs.jsonl",
    "known_pairs.safetensors",
    "lexical/lexical.json",
    "lexical/postings.safetensors",
    "predictor.safetensors",
    "topics.safetensors",
    "vectors.safetensors",
]


@pytest.fixture(scope="module")
def pristine(fitted: Jasper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    write_model(fitted.model, folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change jasper.json as someone would who knows how its own checksum is made."""
    path = folder / DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    change(description)
    del description["content_sha256"]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(description | {"content_sha256": digest}), encoding="utf-8")


def test_the_folder_holds_these_files_and_no_others(pristine: Path) -> None:
    assert sorted(files_of(pristine)) == FILES
    assert [path.name for path in pristine.parent.iterdir()] == ["model"]
    description = json.loads((pristine / DESCRIPTION).read_text(encoding="utf-8"))
    assert sorted(description["sha256"]) == sorted(set(FILES) - {DESCRIPTION})
    assert description["sha256"]["corpus.jsonl"] == file_sha256(pristine / "corpus.jsonl")
    assert (description["documents"], description["dimension"], description["name"]) == (160, 24, "synonyms")


def test_what_is_read_is_what_was_written(pristine: Path, fitted: Jasper) -> None:
    read, written = read_model(pristine), fitted.model
    assert read.documents == written.documents
    assert (read.config, read.identity, read.weights, read.name) == (
        written.config,
        written.identity,
        written.weights,
        written.name,
    )
    np.testing.assert_array_equal(read.vectors.vectors, written.vectors.vectors)
    assert read.vectors.vectors.dtype == np.float32
    assert read.vectors.passages is None
    assert read.guard.alpha == written.guard.alpha
    assert read.guard.gate is not None
    assert written.guard.gate is not None
    np.testing.assert_array_equal(read.guard.gate.bank, written.guard.gate.bank)
    assert (read.guard.gate.low, read.guard.gate.high) == (written.guard.gate.low, written.guard.gate.high)
    assert read.corpus_gate is not None
    assert written.corpus_gate is not None
    np.testing.assert_array_equal(read.corpus_gate.bank, written.corpus_gate.bank)
    assert dataclasses.replace(read.corpus_gate, bank=written.corpus_gate.bank) == written.corpus_gate
    assert read.openness == written.openness == 1.0
    assert not read.predictor.training
    texts = ["car or film", "nothing known"]
    assert read.lexical is not None
    assert written.lexical is not None
    np.testing.assert_array_equal(read.lexical.scores(texts), written.lexical.scores(texts))


def test_the_same_model_gives_the_same_bytes(fitted: Jasper, pristine: Path, tmp_path: Path) -> None:
    write_model(read_model(pristine), tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(pristine)


@pytest.mark.slow
def test_titles_topics_and_any_script_survive(fitted: Jasper, tmp_path: Path) -> None:
    first = Document("ü/1 \u2028", "line\nbreak\u2028 ✓", "title", "topic")
    model = dataclasses.replace(fitted.model, documents=(first, *fitted.model.documents[1:]))
    write_model(model, tmp_path / "model")
    assert read_model(tmp_path / "model").documents == model.documents


@pytest.mark.slow
def test_a_model_without_a_gate(fitted: Jasper, tmp_path: Path) -> None:
    write_model(dataclasses.replace(fitted.model, guard=Guard(0.5)), tmp_path / "model")
    assert sorted(files_of(tmp_path / "model")) == sorted(set(FILES) - {"gate.safetensors"})
    assert read_model(tmp_path / "model").guard == Guard(0.5)


@pytest.mark.slow
def test_a_model_without_a_corpus_gate(fitted: Jasper, tmp_path: Path) -> None:
    write_model(dataclasses.replace(fitted.model, corpus_gate=None, openness=0.5), tmp_path / "model")
    assert sorted(files_of(tmp_path / "model")) == sorted(set(FILES) - {"corpus_gate.safetensors"})
    read = read_model(tmp_path / "model")
    assert (read.corpus_gate, read.openness) == (None, 0.5)
    assert read.serving_guard.alpha == fitted.model.guard.alpha / 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered", "emptied", "a folder"])
def test_damage_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "altered":
        # A digit for a digit: still well formed, and of the same length.
        place = max(content.rfind(digit) for digit in b"0123456789")
        path.write_bytes(
            content[:place] + (b"1" if content[place : place + 1] != b"1" else b"2") + content[place + 1 :]
        )
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "a folder":
        path.mkdir()
    with pytest.raises(InputError) as caught:
        read_model(folder)
    assert path.name in str(caught.value)
    assert "jasper fit" in caught.value.remedy


def test_the_wrong_file_is_found_out(folder: Path) -> None:
    shutil.copy(folder / "vectors.safetensors", folder / "gate.safetensors")
    with pytest.raises(InputError, match=r"gate\.safetensors: does not match its checksum"):
        read_model(folder)


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ('{"format_version": 5}', "model format 5; this version reads 2 to 4", "upgrade"),
        ('{"format_version": 1}', "model format 1; this version reads 2 to 4", "`jasper fit` again"),
        ("{}", "model format None", "`jasper fit` again"),
        ("[1]", "model format None", "`jasper fit` again"),
        ("{", "not valid JSON", "`jasper fit` again"),
        ('{"format_version": 4}', "does not match its own checksum", "`jasper fit` again"),
    ],
)
def test_other_descriptions_are_refused(folder: Path, text: str, problem: str, remedy: str) -> None:
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_model(folder)
    assert caught.value.path == folder / DESCRIPTION
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("name", ["../outside", "lexical/../../outside", "/etc/hostname"])
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_text("secret", encoding="utf-8")
    rewrite(folder, lambda description: description["sha256"].update({name: "0" * 64}))
    with pytest.raises(InputError, match="lies outside the model") as caught:
        read_model(folder)
    assert (caught.value.path, caught.value.field) == (folder / DESCRIPTION, "sha256")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(alpha=2.0),
        lambda d: d.update(alpha="much"),
        lambda d: d.update(gate={"low": 0.1}),
        lambda d: d.update(gate={"low": 0.9, "high": 0.1, "neighbours": 5}),
        lambda d: d.update(sha256=[]),
        lambda d: d.update(predictor={"embedding_dim": 25, "mlp": False}),
        lambda d: d.update(predictor={"embedding_dim": 24, "layers": 3}),
        lambda d: d.update(encoder={"name": "x"}),
        lambda d: d.pop("fusion_weights"),
        lambda d: d.pop("name"),
        lambda d: d.update(topics={"names": ["one"]}),
        lambda d: d["topics"]["names"].pop(),
    ],
)
def test_a_forged_description_is_still_no_traceback(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(folder, change)
    with pytest.raises(InputError):
        read_model(folder)


def test_documents_and_vectors_must_be_as_many(folder: Path) -> None:
    rows = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "corpus.jsonl").write_text("".join(rows[:-1]), encoding="utf-8")
    digest = file_sha256(folder / "corpus.jsonl")
    rewrite(folder, lambda description: description["sha256"].update({"corpus.jsonl": digest}))
    with pytest.raises(InputError, match="159 documents but vectors of 160"):
        read_model(folder)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_no_model_at_all(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no trained model here \(no jasper\.json\)") as caught:
        Jasper.load(tmp_path / place)
    assert caught.value.path == tmp_path / place


@pytest.mark.slow
def test_saving_replaces_a_model_and_an_empty_folder(fitted: Jasper, folder: Path, tmp_path: Path) -> None:
    (folder / "vectors.safetensors").write_bytes(b"broken")
    fitted.save(folder)
    assert len(read_model(folder).documents) == 160
    (tmp_path / "empty").mkdir()
    fitted.save(tmp_path / "empty")
    assert len(read_model(tmp_path / "empty").documents) == 160


def test_saving_never_removes_anything_else(fitted: Jasper, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match="something else than a model") as caught:
            fitted.save(place)
        assert caught.value.path == place
    assert files_of(tmp_path) == {"thesis.tex": b"years of work"}
    require_replaceable(tmp_path / "new")


def test_a_failed_save_leaves_the_old_model(fitted: Jasper, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jasper_rag.serving.saved_model.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(folder)
    assert files_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.slow
def test_others_may_read_a_model_as_far_as_the_umask_says(fitted: Jasper, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_model(fitted.model, tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").rglob("*")}
    assert modes == {name: 0o755 if name == "lexical" else 0o644 for name in modes}


@pytest.mark.slow
def test_a_model_that_a_killed_process_was_putting_in_its_place(
    fitted: Jasper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    (folder / "gate.safetensors").write_bytes(b"broken")
    with monkeypatch.context() as patched:
        patched.setattr(atomic_moves, "_move_up", killed)
        patched.setattr(atomic_moves, "_move_back", killed)
        with pytest.raises(OSError, match="Input/output"):
            fitted.save(folder)
    folder.rename(folder.parent / "old")  # as between two renames
    assert len(read_model(folder).documents) == 160
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model", "old"]
