from __future__ import annotations

import contextlib
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text import archives
from jasper_rag.text.archives import unpacked


def zipped(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, problem: str) -> None:
    place = archive.parent / "place"
    place.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=problem), unpacked(archive, place):
        pass
    assert list(place.iterdir()) == []


def test_files_come_out_and_the_folder_goes(tmp_path: Path) -> None:
    archive = zipped(
        tmp_path / "a.zip",
        {"a/": "", "a/x.txt": "x", "a/b/y.txt": b"\xff" * 10, "__MACOSX/a/._x.txt": "m", "a/.DS_Store": "m"},
    )
    with unpacked(archive, tmp_path) as folder:
        assert contents(folder) == {"a/x.txt": b"x", "a/b/y.txt": b"\xff" * 10}
        (folder / "a").rename(tmp_path / "kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "kept"]
    # What is moved out obeys the umask, unlike a temporary folder.
    (tmp_path / "made").mkdir()
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == stat.S_IMODE((tmp_path / "made").stat().st_mode)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "a//x", "./x", "C:/x", "a\\..\\x", "a\nx", "a/\u202ex", "..", "a/./x"]
)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    refused(zipped(tmp_path / "a.zip", {"a/ok": "x", name: "x"}), "leads out")


def test_links(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("a/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    refused(tmp_path / "a.zip", "link or device")


def test_other_ways_of_compression(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", "x")
    refused(tmp_path / "a.zip", "another way")


def test_encrypted_members(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.zip", {"a": "x"}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "encrypted")


def test_two_members_of_one_name(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.zip", {"a/x": "1", "A/X": "2"}), "two members")
    refused(zipped(tmp_path / "a.zip", {"a/x/y": "1", "a/x": "2"}), "a file and a folder")


@pytest.mark.slow
def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(zipped(tmp_path / "a.zip", {"a": b"\0" * 5_000_000}), "claims 5,000,000")
    small = {f"{number}": b"\0" * 1_000_000 for number in range(8)}
    refused(zipped(tmp_path / "b.zip", small), "200 times")
    monkeypatch.setattr(archives, "MOST_MEMBERS", 7)
    refused(tmp_path / "b.zip", "8 members")
    with (
        pytest.raises(InputError, match="at most 3 are"),
        unpacked(zipped(tmp_path / "c.zip", {"a": "four"}), tmp_path, most_bytes=3),
    ):
        pass


def test_a_header_that_lies(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.zip", {"a": b"0123456789" * 10}).read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (5).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "not a readable zip")


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "a.zip", {"a": "four"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(OSError, match="No space"), unpacked(archive, tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=4))
def test_a_mutated_archive_never_raises_anything_else(tmp_path: Path, where: float, gone: int, new: bytes) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/x.txt": "some text " * 9, "a/y.txt": "y"})
    content = archive.read_bytes()
    at = int(where * len(content))
    archive.write_bytes(content[:at] + new + content[at + gone :])
    with contextlib.suppress(InputError), unpacked(archive, tmp_path) as folder:
        assert set(contents(folder).values()) <= {b"some text " * 9, b"y"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
