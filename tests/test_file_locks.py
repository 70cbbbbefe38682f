from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jasper_rag import file_locks
from jasper_rag.errors import InputError
from jasper_rag.file_locks import LOCK, exclusive, release, take

HOLD = """
import sys
from jasper_rag.file_locks import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `directory` until it is told to end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", HOLD, str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.slow
def test_a_second_process_is_refused_at_once(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    with holder(run) as process:
        with pytest.raises(InputError) as caught, exclusive(run):
            pytest.fail("held twice")
        said = rf"another jasper is writing here \(pid {process.pid} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\)\."
        assert re.fullmatch(said, caught.value.problem)
        assert caught.value.path == run
        assert "another directory" in caught.value.remedy
        process.communicate("end\n")
        assert process.returncode == 0
    assert names(tmp_path / "runs") == []  # made for the lock, and nothing was written
    with exclusive(run):
        assert names(run) == [LOCK]


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert names(tmp_path) == [LOCK]
    with exclusive(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"pid {os.getpid()} ")
    assert names(tmp_path) == []


def test_it_may_be_held_again_within_but_not_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def other() -> None:
        with pytest.raises(InputError) as caught, exclusive(tmp_path, "fetching into this directory"):
            pytest.fail("held twice")
        refused.append(caught.value.problem)

    monkeypatch.chdir(tmp_path.parent)
    with exclusive(tmp_path), exclusive(tmp_path.name):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert names(tmp_path) == [LOCK]
    assert len(refused) == 1
    assert refused[0].startswith(f"another jasper is fetching into this directory (pid {os.getpid()} ")
    assert names(tmp_path) == []


def test_what_was_written_stays_and_so_does_an_error(tmp_path: Path) -> None:
    with exclusive(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    with pytest.raises(KeyError), exclusive(tmp_path / "new"):
        raise KeyError
    with pytest.raises(KeyError), exclusive(tmp_path / "newer"):
        raise KeyError
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == ["file"]


def test_a_lock_without_a_readable_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOCK
    descriptor = take(path)
    assert descriptor is not None
    assert take(path) is None
    for text in ("", "something else"):
        path.write_text(text)
        with pytest.raises(InputError, match="another jasper is writing here\\."), exclusive(tmp_path):
            pytest.fail("held twice")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(InputError, match="another jasper is writing here\\."), exclusive(tmp_path):
        pytest.fail("held twice")
    release(descriptor, path)
    assert names(tmp_path) == []


def test_a_lock_file_removed_meanwhile_is_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOCK
    really = file_locks._lock
    calls = 0

    def slow(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        really(descriptor)
        if calls == 1:
            path.unlink()  # by its last holder, just before it let go

    monkeypatch.setattr(file_locks, "_lock", slow)
    descriptor = take(path)
    assert descriptor is not None
    assert calls == 2
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    # Nor does the end of a lock remove the file of another one.
    path.unlink()
    path.write_text("another's")
    release(descriptor, path)
    assert path.read_text() == "another's"


def test_a_directory_removed_by_its_last_holder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def vanishing(path: Path) -> int | None:
        tries.append(path)
        if len(tries) == 1:
            path.parent.rmdir()
        return take(path)

    monkeypatch.setattr(file_locks, "take", vanishing)
    with exclusive(tmp_path / "run"):
        assert names(tmp_path / "run") == [LOCK]
    assert len(tries) == 2


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(number: int) -> None:
        def lock(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(file_locks, "_lock", lock)

    refuse(errno.ENOLCK)
    with exclusive(tmp_path / "run"):
        pass
    assert "no locks on this file system" in caplog.text
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"), exclusive(tmp_path / "run"):
        pytest.fail("not held")
