"""Moves broken off by a kill before any call to the system. Run as a script, this file is killed there."""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from jasper_rag import atomic_moves, file_locks
from jasper_rag.atomic_files import replacing_directory, replacing_entries
from jasper_rag.atomic_moves import exchange, recover

CALLS = ("fsync", "mkdir", "rename", "rmdir", "unlink")
OLD = {"model/weights": "old", "model/gone": "old", "table": "old", "notes": "mine"}
NEW = {"model/weights": "new", "report": "new", "table": "new"}


def files(directory: Path) -> dict[str, str]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_text() for path in found}


def write(directory: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def replace(run: Path, kind: str) -> None:
    with replacing_directory(run) if kind == "directory" else replacing_entries(run) as fresh:
        write(fresh, NEW)


def state(run: Path, kind: str) -> str:
    """Which of the two contents stands at `run`, hidden files aside."""
    whole = NEW if kind == "directory" else {"notes": "mine"} | NEW
    found = {name: text for name, text in files(run).items() if not name.startswith(".")} if run.exists() else {}
    return {str(sorted(OLD.items())): "old", str(sorted(whole.items())): "new", "[]": "none"}.get(
        str(sorted(found.items())), "mixed"
    )


def die_at(number: int, swaps: bool) -> None:
    """Let the process end, as by a kill, before its `number`th call that changes a directory or waits for the disk."""
    calls = itertools.count(1)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == number:
                os._exit(9)
            return function(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))
    swap = deadly(exchange if swaps else lambda one, other: False)
    atomic_moves.exchange = swap


def survivals(root: Path, kind: str, swaps: bool) -> Iterator[dict[str, Any]]:
    """What stands after a kill at each point in turn, for a reader, and after the next writer's sweep."""
    for number in itertools.count(1):
        run = root / str(number) / "run"
        run.mkdir(parents=True)
        write(run, OLD)
        child = os.fork()
        if child == 0:
            die_at(number, swaps)
            replace(run, kind)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = {"code": code, "left": state(run, kind)}
        recover(run)
        found["read"] = state(run, kind)
        recover(run, to_write=True)
        found["swept"] = state(run, kind)
        found["names"] = [path.name for folder in (run.parent, run) for path in sorted(folder.iterdir())]
        yield found
        if code == 0:
            return


@pytest.fixture(params=[True, False], ids=["swapped", "renamed"])
def swaps(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Names change places in one step, or in two where the system knows no such step."""
    if not request.param:
        monkeypatch.setattr(atomic_moves, "exchange", lambda one, other: False)
        return False
    write(tmp_path / "probe", {"one": "1", "other": "2"})
    if not exchange(tmp_path / "probe" / "one", tmp_path / "probe" / "other"):
        pytest.skip("this file system cannot swap names")
    assert files(tmp_path / "probe") == {"one": "2", "other": "1"}
    shutil.rmtree(tmp_path / "probe")
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directory", "entries"])
def test_a_kill_at_any_point_leaves_all_old_or_all_new(tmp_path: Path, kind: str, swaps: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, __file__, str(tmp_path), kind, str(int(swaps))]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert [one["code"] for one in found] == [9] * (len(found) - 1) + [0]
    reads = [one["read"] for one in found]
    assert set(reads) == {"old", "new"}
    assert reads == sorted(reads, reverse=True)  # once new, new for good
    assert [one["swept"] for one in found] == reads
    names = {"old": ["model", "notes", "table"], "new": ["model", *["notes"] * (kind == "entries"), "report", "table"]}
    assert [one["names"] for one in found] == [["run", *names[read]] for read in reads]
    # For a reader who may not write: swapped, a folder is there at every moment.
    left = {one["left"] for one in found}
    expected = {"directory": {"old", "new"}, "entries": {"old", "new", "mixed"}}[kind]
    assert left == (expected if swaps else expected | ({"none"} if kind == "directory" else set()))


def staging_in(folder: Path) -> Path:
    (found,) = folder.glob(".*.jasper-tmp")
    return found


def broken_off(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave a staging whose moves have been journalled and not begun, as a kill does, and return it."""

    def stop(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(atomic_moves, "_move_up", stop)
        patched.setattr(atomic_moves, "_move_back", stop)
        with pytest.raises(OSError, match="broken"):
            replace(run, "entries")
    return staging_in(run)


@pytest.mark.slow
def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    with replacing_entries(tmp_path) as fresh:
        write(fresh, NEW)
        recover(tmp_path, to_write=True)
        with replacing_entries(tmp_path) as other:
            write(other, {"table": "other's"})
        assert files(fresh) == NEW
    assert state(tmp_path, "entries") == "new"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_move_that_can_be_neither_done_nor_undone_is_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OLD)
    broken_off(tmp_path, monkeypatch)
    assert state(tmp_path, "entries") == "old"
    recover(tmp_path / "model")  # also asked for one of its entries alone
    assert state(tmp_path, "entries") == "new"
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.slow
def test_a_reader_takes_what_is_there_and_a_writer_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD)
    staging = broken_off(tmp_path, monkeypatch)

    def closed(path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(atomic_moves, "take", closed)
        recover(tmp_path)
        with pytest.raises(PermissionError), replacing_entries(tmp_path):
            pytest.fail("the old moves would be done after these")
        (staging / "journal.json").unlink()
        recover(tmp_path, to_write=True)  # litter of another does no harm
        assert staging.exists()
    recover(tmp_path)
    assert staging.exists()
    recover(tmp_path, to_write=True)
    assert not staging.exists()
    recover(tmp_path / "nowhere" / "at" / "all", to_write=True)


def test_names_in_a_journal_do_not_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    write(tmp_path, {"run/table": "old", "outside": "mine"})
    staging = broken_off(run, monkeypatch)
    (staging / "journal.json").write_text(json.dumps({"../outside": 1, "..": 2, "": 3, ".": 4, "table": 5}))
    recover(run)
    assert (run / "table").read_text() == "new"
    assert (tmp_path / "outside").read_text() == "mine"


def test_a_strangers_staging_in_an_open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD)
    broken_off(tmp_path, monkeypatch)
    tmp_path.chmod(0o1777)
    stat = Path.stat

    def foreign(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        values = list(stat(path, follow_symlinks=follow_symlinks))
        values[4] += path.suffix == ".jasper-tmp"  # st_uid
        return os.stat_result(values)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", foreign)
        recover(tmp_path, to_write=True)
    assert state(tmp_path, "entries") == "old"
    recover(tmp_path)
    assert state(tmp_path, "entries") == "new"


def test_a_file_system_without_locks_still_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        def lock(_: int) -> NoReturn:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(file_locks, "_lock", lock)

    write(tmp_path, OLD)
    refuse(errno.ENOLCK)
    with replacing_entries(tmp_path) as fresh:
        write(fresh, NEW)
        recover(tmp_path, to_write=True)
    assert state(tmp_path, "entries") == "new"
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"), replacing_entries(tmp_path):
        pytest.fail("no place to write to")
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("obstacle", ["gone", "locked"])
def test_a_staging_that_a_sweeper_took_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    tries: list[Path] = []

    def disturbed(path: Path) -> int | None:
        tries.append(path)
        if len(tries) == 1:
            path.parent.rmdir()
        return None if len(tries) == 1 and obstacle == "locked" else file_locks.take(path)

    monkeypatch.setattr(atomic_moves, "take", disturbed)
    with replacing_entries(tmp_path / "run") as fresh:
        write(fresh, NEW)
    assert len(tries) == 2
    assert files(tmp_path / "run") == NEW


@pytest.mark.parametrize("kind", ["missing", "refusing"])
def test_systems_that_cannot_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def refusing(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(atomic_moves, "_renameat2", lambda: None if kind == "missing" else refusing)
    write(tmp_path, {"one": "1", "other": "2"})
    assert not exchange(tmp_path / "one", tmp_path / "other")
    assert files(tmp_path) == {"one": "1", "other": "2"}


def test_a_c_library_without_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert atomic_moves._renameat2.__wrapped__() is None


def test_a_name_that_does_not_exist_cannot_be_swapped(tmp_path: Path, swaps: bool) -> None:
    (tmp_path / "one").touch()
    if swaps:
        with pytest.raises(FileNotFoundError):
            exchange(tmp_path / "one", tmp_path / "other")


if __name__ == "__main__":
    setattr(os, "fsync", lambda _: None)  # noqa: B010 - counted, but not waited for: a kill loses nothing that the system has
    print(json.dumps(list(survivals(Path(sys.argv[1]) / "kills", sys.argv[2], sys.argv[3] == "1"))))
