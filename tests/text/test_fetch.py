from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.file_locks import LOCK, release, take
from jasper_rag.text import fetch
from jasper_rag.text.fetch import BEIR_MD5, fetch_beir, sets_in
from jasper_rag.text.readers import read_retrieval_set

SET: Mapping[str, str] = {
    "corpus.jsonl": '{"_id": "d1", "title": "Cats", "text": "They purr."}\n',
    "queries.jsonl": '{"_id": "q1", "text": "who purrs?"}\n',
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
}
QUICK: Mapping[str, Any] = {"pause": 0.0, "timeout": 5.0, "tries": 3}


def zipped(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def under(folder: str, files: Mapping[str, str] = SET) -> dict[str, str]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.fixture
def beir(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The local server in the place of the real one, with its own checksum."""
    content = zipped(under("scifact"))
    server.files["/scifact.zip"] = content
    monkeypatch.setattr(fetch, "BEIR_URL", server.url)
    monkeypatch.setattr(fetch, "BEIR_MD5", {**BEIR_MD5, "scifact": hashlib.md5(content).hexdigest()})
    return server


def test_a_set_by_name(beir: Any, tmp_path: Path) -> None:
    found = fetch_beir("scifact", tmp_path / "data", **QUICK)
    assert found == tmp_path / "data/scifact"
    assert read_retrieval_set(found).qrels == {"test": {"q1": {"d1": 1}}}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["scifact"]
    assert fetch_beir("scifact", tmp_path / "data") == found
    assert len(beir.requests) == 1  # it was there


def test_a_fetch_that_broke_off_goes_on(beir: Any, tmp_path: Path) -> None:
    beir.cuts = [200, 100]
    fetch_beir("scifact", tmp_path, **QUICK)
    assert [request.get("Range") for request in beir.requests] == [None, "bytes=200-", "bytes=300-"]


def test_the_published_checksum_is_checked(beir: Any, tmp_path: Path) -> None:
    beir.files["/scifact.zip"] = zipped(under("scifact", {**SET, "corpus.jsonl": "x"}))
    with pytest.raises(InputError, match="md5"):
        fetch_beir("scifact", tmp_path, **QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_server_with_ones_own_sets(server: Any, tmp_path: Path) -> None:
    content = server.files["/sets/mine.zip"] = zipped(SET)  # no folder inside
    with pytest.raises(InputError, match="sha256"):
        fetch_beir("mine", tmp_path, f"{server.url}/sets/", sha256="0" * 64, **QUICK)
    fetch_beir("mine", tmp_path, f"{server.url}/sets/", sha256=hashlib.sha256(content).hexdigest(), **QUICK)
    assert read_retrieval_set(tmp_path / "mine").name == "mine"
    server.files["/other.zip"] = zipped(under("a-name-of-its-own"))
    assert fetch_beir("other", tmp_path, server.url, **QUICK) == tmp_path / "other"


def test_a_set_of_sets(server: Any, tmp_path: Path) -> None:
    server.files["/cqa.zip"] = zipped({**under("cqa/android"), **under("cqa/tex")})
    found = fetch_beir("cqa", tmp_path, server.url, **QUICK)
    assert sorted(path.name for path in found.iterdir()) == ["android", "tex"]
    assert fetch_beir("cqa", tmp_path, server.url) == found
    assert len(server.requests) == 1


def test_a_folder_of_another_name(server: Any, tmp_path: Path) -> None:
    server.files["/mine.zip"] = zipped({**under("mine/a"), **under("mine/b")})
    found = fetch_beir("mine", tmp_path, server.url, folder="first", **QUICK)
    assert found == tmp_path / "first"
    assert sets_in(found) == [found / "a", found / "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert sets_in(found / "a") == [found / "a"]
    assert sets_in(tmp_path / "none") == []


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no BEIR set 'SciFacts'") as caught:
        fetch_beir("SciFacts", tmp_path)
    assert "Did you mean scifact?" in caught.value.remedy
    assert all(name in caught.value.remedy for name in BEIR_MD5)
    for name in ("../x", "", ".hidden", "a/b", "x" * 101):
        with pytest.raises(InputError, match="cannot be a set's name"):
            fetch_beir(name, tmp_path, "http://127.0.0.1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>Log in to this network</html>", "zip file"),
        (zipped({"readme.txt": "x"}), r"holds readme\.txt"),
        (zipped({"../x": "x"}), "leads out"),
    ],
)
def test_what_is_no_set_is_not_kept(server: Any, tmp_path: Path, content: bytes, problem: str) -> None:
    server.files["/mine.zip"] = content
    with pytest.raises(InputError, match=problem):
        fetch_beir("mine", tmp_path, server.url, **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_read_stays_to_be_mended(server: Any, tmp_path: Path) -> None:
    server.files["/mine.zip"] = zipped(under("mine", {**SET, "queries.jsonl": "oops\n"}))
    for _ in range(2):
        with pytest.raises(InputError, match="JSON") as caught:
            fetch_beir("mine", tmp_path, server.url, **QUICK)
    assert caught.value.path == tmp_path / "mine/queries.jsonl"
    assert caught.value.path.exists()
    (tmp_path / "mine/queries.jsonl").write_text(SET["queries.jsonl"])
    assert fetch_beir("mine", tmp_path, server.url) == tmp_path / "mine"


def test_large_sets_are_not_read(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/mine.zip"] = zipped(under("mine", {**SET, "queries.jsonl": "oops\n"}))
    monkeypatch.setattr(fetch, "LARGE", 3)
    assert fetch_beir("mine", tmp_path, server.url, **QUICK) == tmp_path / "mine"


def test_a_place_that_is_taken(server: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(InputError, match="something else"):
        fetch_beir("mine", tmp_path, server.url)
    (tmp_path / "mine/notes.txt").unlink()
    server.files["/mine.zip"] = zipped(SET)
    assert fetch_beir("mine", tmp_path, server.url, **QUICK) == tmp_path / "mine"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        fetch_beir("mine", tmp_path / "file", server.url)


def test_one_process_at_a_time(server: Any, tmp_path: Path) -> None:
    server.files["/mine.zip"] = zipped(SET)
    (tmp_path / ".unpacking-killed.tmp").mkdir()
    other = take(tmp_path / LOCK)
    assert other is not None
    with pytest.raises(InputError, match="another jasper is fetching into this directory"):
        fetch_beir("mine", tmp_path, server.url)
    release(other, tmp_path / LOCK)
    fetch_beir("mine", tmp_path, server.url, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
