from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import random
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.download import download

CONTENT = random.Random(0).randbytes(3_000_000)


def fetch(server: Any, target: Path, **options: Any) -> Path:
    return download(f"{server.url}/a.zip", target, **{"pause": 0.0, "timeout": 5.0, **options})


@pytest.fixture
def target(tmp_path: Path, server: Any) -> Path:
    server.files["/a.zip"] = CONTENT
    return tmp_path / "sub" / "a.zip"


def ranges(server: Any) -> list[str]:
    return [request.get("Range", "") for request in server.requests]


def test_a_whole_file_comes_and_leaves_nothing_beside_it(server: Any, target: Path) -> None:
    digests = {"sha256": hashlib.sha256(CONTENT).hexdigest().upper(), "md5": hashlib.md5(CONTENT).hexdigest()}
    assert fetch(server, target, **digests) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["a.zip"]
    assert fetch(server, target, **digests) == target
    assert len(server.requests) == 1  # it was there, and was checked


def test_a_broken_transfer_goes_on_where_it_stopped(server: Any, target: Path) -> None:
    server.cuts = [1_000_000, 700_000, 0]
    fetch(server, target, tries=2)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=1000000-", "bytes=1700000-", "bytes=1700000-"]
    assert server.requests[1]["If-Range"] == '"v1"'


def test_the_next_call_goes_on_too(server: Any, target: Path) -> None:
    server.cuts = [1_000_000, 0]
    with pytest.raises(InputError, match=r"no progress in 1 tries, at 1,000,000 bytes") as caught:
        fetch(server, target, tries=1)
    assert str(target) in caught.value.remedy
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=1000000-", "bytes=1000000-"]


def test_a_file_that_changed_meanwhile_is_taken_anew(server: Any, target: Path) -> None:
    server.cuts = [1_000_000, 0]
    with pytest.raises(InputError):
        fetch(server, target, tries=1)
    server.files["/a.zip"], server.etag = CONTENT[::-1], '"v2"'
    fetch(server, target)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("etag", "modified", "resumed"),
    [
        ("", "Tue, 01 Jul 2025 10:00:00 GMT", True),
        ('W/"v1"', "Tue, 01 Jul 2025 10:00:00 GMT", True),
        ('W/"v1"', "", False),
        ("", "", False),
    ],
)
def test_validators(server: Any, target: Path, etag: str, modified: str, resumed: bool) -> None:
    server.etag, server.last_modified = etag, modified
    server.cuts = [1_000_000]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert (ranges(server)[1] != "") == resumed
    assert server.requests[1].get("If-Range", "") == (modified if resumed else "")


@pytest.mark.slow
def test_a_server_without_ranges(server: Any, target: Path) -> None:
    server.ranges = False
    server.cuts = [1_000_000, 900_000]
    fetch(server, target, tries=3)
    assert target.read_bytes() == CONTENT


def test_a_server_without_a_length(server: Any, target: Path) -> None:
    server.length = False
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def begun(target: Path, address: str, content: bytes, **record: Any) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name("a.zip.part")
    part.write_bytes(content)
    whole = {"url": address, "etag": '"v1"', "last_modified": "", "size": len(CONTENT), **record}
    part.with_name("a.zip.part.json").write_text(json.dumps(whole))
    return part


def test_a_complete_part_needs_no_request(server: Any, target: Path) -> None:
    begun(target, f"{server.url}/a.zip", CONTENT)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_part_longer_than_the_file_is_dropped(server: Any, target: Path) -> None:
    begun(target, f"{server.url}/a.zip", CONTENT + b"more")
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={len(CONTENT) + 4}-", ""]


@pytest.mark.parametrize(
    "record", [{"url": "http://other/a.zip"}, {"etag": 3}, {"size": "many"}, {"last_modified": None}]
)
def test_a_part_with_a_foreign_record_is_dropped(server: Any, target: Path, record: dict[str, Any]) -> None:
    begun(target, f"{server.url}/a.zip", b"x" * 1000, **record)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [""]


def test_a_damaged_record_is_no_crash(server: Any, target: Path) -> None:
    begun(target, f"{server.url}/a.zip", b"x" * 1000).with_name("a.zip.part.json").write_text("[1")
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_an_answer_with_another_range_is_refused(server: Any, target: Path) -> None:
    begun(target, f"{server.url}/a.zip", CONTENT[:1000])
    server.headers = {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}
    with pytest.raises(InputError, match="another range"):
        fetch(server, target, tries=2)
    assert not target.exists()


def test_a_busy_server_is_asked_again(server: Any, target: Path) -> None:
    server.statuses = [503, 429, 500]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    server.statuses = [503] * 9
    with pytest.raises(InputError, match="503"):
        fetch(server, target.with_name("b.zip"), tries=3)


def test_what_is_not_there_is_not_asked_for_again(server: Any, target: Path) -> None:
    with pytest.raises(InputError, match="404"):
        download(f"{server.url}/none.zip", target)
    assert len(server.requests) == 1
    assert not target.exists()


@pytest.mark.slow
def test_a_wrong_digest_leaves_nothing(server: Any, target: Path) -> None:
    for options in ({"sha256": "0" * 64}, {"md5": "0" * 32}):
        with pytest.raises(InputError, match="expected 000") as caught:
            fetch(server, target, **options)
        assert "removed" in str(caught.value)
        assert list(target.parent.iterdir()) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InputError, match=r"no progress in 2 tries.*refused"):
        download(f"http://127.0.0.1:{port}/a.zip", tmp_path / "a.zip", tries=2, pause=0.0)


def test_a_silent_server_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match="timed out"):
            download(f"http://127.0.0.1:{port}/a.zip", tmp_path / "a.zip", tries=1, timeout=0.05)


def test_a_server_that_talks_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nonsense(*_: Any, **__: Any) -> Any:
        raise ConnectionResetError(104, "reset")

    monkeypatch.setattr(urllib.request, "urlopen", nonsense)
    with pytest.raises(InputError, match="reset"):
        download("http://127.0.0.1/a.zip", tmp_path / "a.zip", tries=1)


def test_a_connection_that_breaks_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> bytes:
        raise ConnectionResetError(104, "reset")

    answer = SimpleNamespace(status=200, headers={}, read=broken)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: contextlib.nullcontext(answer))
    with pytest.raises(InputError, match="no progress in 2 tries, at 0 bytes: ConnectionResetError"):
        download("http://127.0.0.1/a.zip", tmp_path / "a.zip", tries=2, pause=0.0)


def test_offline_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(InputError, match=r"host\.example .*offline") as caught:
        download("https://host.example/a.zip", tmp_path / "a.zip")
    assert str(tmp_path / "a.zip ") in caught.value.remedy


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "a.zip", ""])
def test_only_web_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="http or https"):
        download(url, tmp_path / "a.zip")


def test_a_disk_without_room_is_seen_before_a_byte_is_written(
    server: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="disk is full"):
        fetch(server, target)


def test_a_disk_that_fills_up_keeps_what_came(server: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file
            self.room = 1_000_000

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, block: bytes) -> None:
            if self.room < len(block):
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(block)
            self.file.write(block)

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = real(path, mode, *rest, **options)
        return Full(file) if mode == "ab" else file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        with pytest.raises(InputError, match="disk is full") as caught:
            fetch(server, target)
    assert "kept" in caught.value.remedy
    have = target.with_name("a.zip.part").stat().st_size
    assert have > 700_000
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == ["", f"bytes={have}-"]


def test_a_place_that_cannot_be_written(server: Any, tmp_path: Path) -> None:
    server.files["/a.zip"] = CONTENT
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        fetch(server, tmp_path / "a.zip")
