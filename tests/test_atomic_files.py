from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from jasper_rag import atomic_moves
from jasper_rag.atomic_files import replacing, replacing_directory, replacing_entries, write_json, write_text

Manager = Callable[[Path], AbstractContextManager[Path]]


class Stop(BaseException):
    """Not an Exception, like a Ctrl-C."""


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken_off(manager: Manager, path: Path, error: type[BaseException]) -> None:
    with manager(path) as temporary:
        write_text(temporary / "half.txt" if temporary.is_dir() else temporary, "half")
        raise error


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess[bytes]:
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True)


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.txt"
    write_text(path, "one\n")
    write_text(str(path), "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    assert names(path.parent) == ["file.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path  # renames are atomic within one file system only
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(error):
        broken_off(replacing, path, error)
    assert names(tmp_path) == []
    write_text(path, "old")
    with pytest.raises(error):
        broken_off(replacing, path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_disk_found_full_by_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tmp_path / "file.txt", tmp_path / "folder"
    write_text(path, "old")
    write_text(folder / "inside.txt", "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_text(path, "new")
    with pytest.raises(OSError, match=f"No space left on device: '{folder}'"), replacing_directory(folder) as temporary:
        (temporary / "inside.txt").write_text("new")
    assert path.read_text() == (folder / "inside.txt").read_text() == "old"
    assert names(tmp_path) == ["file.txt", "folder"]


@pytest.mark.slow
def test_a_write_that_really_fails_and_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    # A limit on file size breaks the write off in the middle, as a full disk does.
    failed = run(
        "import resource, signal, sys\n"
        "from jasper_rag.atomic_files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(sys.argv[1], 'x' * 100_000)\n",
        path,
    )
    assert failed.returncode == 1
    assert f"File too large: '{path}'".encode() in failed.stderr
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]
    killed = run(
        "import os, sys\n"
        "from jasper_rag.atomic_files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os._exit(9)\n",
        path,
    )
    assert killed.returncode == 9
    assert path.read_text() == "old"


def test_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    synced, replaced, renamed = os.fsync, Path.replace, Path.rename

    def fsync(descriptor: int) -> None:
        events.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".")[-1])
        synced(descriptor)

    def replace(path: Path, target: Path) -> Path:
        events.append("rename")
        return replaced(path, target)

    def rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return renamed(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(atomic_moves, "exchange", lambda one, other: False)
    parent = tmp_path.name.split(".")[-1]
    write_text(tmp_path / "file", "content")
    assert events == ["sync tmp", "rename", f"sync {parent}"]
    events.clear()
    with replacing_directory(tmp_path / "folder") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "weights").write_text("content")  # written by others, who may not sync
    journal = ["sync tmp", "rename", "sync jasper-tmp"]
    expected = ["sync fresh", "sync folder", "sync weights", "sync sub", *journal, "rename", f"sync {parent}"]
    assert events == expected


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_obey_the_umask(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    write_text(tmp_path / "file.txt", "x")
    with replacing_directory(tmp_path / "folder") as temporary:
        write_text(temporary / "inside.txt", "x")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "folder" / "inside.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    assert umask(mask) == mask


def test_a_directory_is_made_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with replacing_directory(folder) as temporary:
        write_text(temporary / "a" / "one.txt", "1")
        write_text(temporary / "gone.txt", "1")
    with replacing_directory(str(folder)) as temporary:
        assert names(temporary) == []
        write_text(temporary / "a" / "two.txt", "2")
        assert names(folder) == ["a", "gone.txt"]
    assert names(folder) == ["a"]
    assert names(folder / "a") == ["two.txt"]
    assert names(folder.parent) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_an_exception_leaves_the_old_directory_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    folder = tmp_path / "folder"
    for expected in ([], ["folder"]):
        with pytest.raises(error):
            broken_off(replacing_directory, folder, error)
        assert names(tmp_path) == expected
        write_text(folder / "old.txt", "old")
    assert names(folder) == ["old.txt"]


def test_files_of_others_that_are_private_become_usual(tmp_path: Path, umask: Callable[[int], int]) -> None:
    tensors = {"vectors": np.ones(3, dtype=np.float32)}
    umask(0o022)
    for manager in (replacing_directory, replacing_entries):
        with manager(tmp_path / "folder") as temporary:
            (temporary / "sub").mkdir()
            save_file(tensors, temporary / "sub" / "tensors")
            (temporary / "program").touch(0o755)
        for name, mode in (("sub/tensors", 0o644), ("program", 0o755), ("sub", 0o755), (".", 0o755)):
            assert (tmp_path / "folder" / name).stat().st_mode & 0o777 == mode


def test_an_error_told_in_words_becomes_the_systems(tmp_path: Path) -> None:
    path = tmp_path / "tensors"
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    for manager in (replacing, replacing_directory, replacing_entries):
        with pytest.raises(OSError, match=f"No space left on device: '{path}'") as caught, manager(path):
            raise SafetensorError(said)
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(SafetensorError, match="header too large"), replacing(path):
        raise SafetensorError("header too large")
    assert names(tmp_path) == []


def test_an_error_keeps_the_file_it_knows(tmp_path: Path) -> None:
    known = PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
    with pytest.raises(PermissionError, match="'/elsewhere'"), replacing(tmp_path / "file"):
        raise known
    with pytest.raises(OSError, match=f"broken: '{tmp_path / 'file'}'"), replacing(tmp_path / "file"):
        raise OSError(errno.EIO, "broken")


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"name": "grün", "values": [1, 2.5, None]})
    text = path.read_text(encoding="utf-8")
    assert "grün" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "grün", "values": [1, 2.5, None]}
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"value": value})
    assert path.read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["value.json"]


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_entries_that_are_not_finished_change_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        broken_off(replacing_entries, tmp_path / "new" / "run", error)
    assert names(tmp_path / "new") == []
    write_text(tmp_path / "old" / "half.txt", "old")
    with pytest.raises(error):
        broken_off(replacing_entries, tmp_path / "old", error)
    assert names(tmp_path / "old") == ["half.txt"]
    assert (tmp_path / "old" / "half.txt").read_text() == "old"
