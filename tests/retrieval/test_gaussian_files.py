"""Indexes on disk: damaged ones, and one whose writer is killed. Run as a script, this file is that writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jasper_rag.embedding.checksums import content_sha256, file_sha256
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.errors import InputError
from jasper_rag.retrieval.gaussian_files import read_gaussian_index, write_gaussian_index
from jasper_rag.retrieval.stored_documents import StoredDocument

IDENTITY = EncoderIdentity(name="e", weights_sha256="a" * 64, dimension=3)
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
DOCUMENTS = [StoredDocument(f"d{row}", f"text {row}", {"row": row}) for row in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gaussian_index(tmp_path / "index", IDENTITY, VECTORS, DOCUMENTS)
    return tmp_path / "index"


def rewrite(folder: Path, **changes: object) -> None:
    """Change the description as someone would who knows how its checksum is made."""
    path = folder / "gaussian_index.json"
    description = json.loads(path.read_text())
    description["sha256"] = {name: file_sha256(folder / name) for name in description["sha256"]}
    description |= changes
    description["content_sha256"] = content_sha256(description, "content_sha256")
    path.write_text(json.dumps(description))


def test_what_was_written_is_read(folder: Path) -> None:
    identity, vectors, documents = read_gaussian_index(folder)
    assert (identity, documents) == (IDENTITY, DOCUMENTS)
    np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize("name", ["vectors.safetensors", "documents.jsonl"])
@pytest.mark.parametrize("how", ["cut", "altered", "missing"])
def test_a_damaged_file_is_refused_with_the_remedy(folder: Path, name: str, how: str) -> None:
    path = folder / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if how == "cut" else content[:-3] + b"x" + content[-2:])
    with pytest.raises(InputError, match="missing" if how == "missing" else "checksum") as caught:
        read_gaussian_index(folder)
    assert caught.value.path == path
    assert "Build the index again" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "index format None"),
        ('{"format_version": 9}', "index format 9; this version reads 1"),
        ('{"format_version": 1, "sha256": {}}', "does not match its own checksum"),
    ],
)
def test_a_damaged_description_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "gaussian_index.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_gaussian_index(folder)


def test_files_that_do_not_fit_together_are_refused(folder: Path) -> None:
    rewrite(folder, documents=5)
    with pytest.raises(InputError, match=r"4 documents, vectors \[4, 3\]; expected \[5, 3\]"):
        read_gaussian_index(folder)
    save_file({"others": VECTORS}, folder / "vectors.safetensors")
    rewrite(folder)
    with pytest.raises(InputError, match="cannot be read"):
        read_gaussian_index(folder)
    with pytest.raises(InputError, match="there is no index here") as caught:
        read_gaussian_index(folder.parent)
    assert "save_index" in caught.value.remedy


def test_only_an_index_is_replaced(folder: Path, tmp_path: Path) -> None:
    write_gaussian_index(folder, IDENTITY, VECTORS[:1], DOCUMENTS[:1])
    assert len(read_gaussian_index(folder)[2]) == 1
    full = tmp_path / "full"
    full.mkdir()
    write_gaussian_index(full, IDENTITY, VECTORS, DOCUMENTS)  # an empty folder is a place, too
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in (tmp_path / "mine", tmp_path / "mine" / "letter.txt"):
        with pytest.raises(InputError, match="something else than an index is here"):
            write_gaussian_index(place, IDENTITY, VECTORS, DOCUMENTS)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_an_error_while_writing_leaves_the_old_index(folder: Path) -> None:
    with pytest.raises(TypeError):
        write_gaussian_index(folder, IDENTITY, VECTORS[:1], [StoredDocument("a", "b", {"set": {1}})])
    assert len(read_gaussian_index(folder)[2]) == 4
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


@pytest.mark.slow
@pytest.mark.parametrize("documents", [1, 2])
def test_a_kill_while_saving_leaves_the_old_index_intact(folder: Path, documents: int) -> None:
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, __file__, str(folder), str(documents)]
    process = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.parent.iterdir())) == 2  # what the killed process left lies beside it
    assert read_gaussian_index(folder)[2] == DOCUMENTS
    write_gaussian_index(folder, IDENTITY, VECTORS[:3], DOCUMENTS[:3])
    assert read_gaussian_index(folder)[2] == DOCUMENTS[:3]
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


class Deadly(Mapping[str, object]):
    """Metadata that ends the process when it is to be written."""

    def __iter__(self) -> Iterator[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return iter(())

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> object:
        return key


if __name__ == "__main__":
    last = int(sys.argv[2]) - 1
    killed = [StoredDocument(d.id, d.text, Deadly() if row == last else {}) for row, d in enumerate(DOCUMENTS)]
    write_gaussian_index(sys.argv[1], IDENTITY, VECTORS, killed)
