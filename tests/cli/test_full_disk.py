"""A disk that fills while a run is written: by a limit on the size of files, and a real one where it may be mounted."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`, hidden ones too, with its bytes."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes into one file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 12_000, 40_000])
def test_files_that_cannot_be_finished(
    jasper: Command, run: Path, data: Path, settings: Path, tmp_path: Path, size: int
) -> None:
    old, new = Path(shutil.copytree(run, tmp_path / "old")), tmp_path / "new"
    before = files_of(old)
    assert max(map(len, before.values())) > 40_000
    for target in (old, new):
        with largest_file(size):
            outcome = jasper("fit", "--data", data, "--output-dir", target, "--config", settings, "-q")
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith(f"jasper: {target}: File too large.\n  Make room, then give the same command")
        assert "Traceback" not in outcome.err
    assert files_of(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.slow
def test_a_full_disk(jasper: Command, run: Path, data: Path, settings: Path, small_disk: Path) -> None:
    target = Path(shutil.copytree(run, small_disk / "run"))
    before = files_of(target)
    ballast = small_disk / "ballast"
    arguments = ["fit", "--data", data, "--output-dir", target, "--config", settings, "--seed", "0", "-q"]
    size = sum(map(len, before.values()))
    for left in (4_096, size // 3, size * 3 // 4):
        ballast.unlink(missing_ok=True)
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
        outcome = jasper(*arguments)
        assert (outcome.code, outcome.out) == (1, ""), outcome.err
        assert outcome.err.startswith(f"jasper: {target}: No space left on device: it takes more than the 0.")
        assert outcome.err.count("\n") == 2
        assert files_of(target) == before
    ballast.unlink()
    assert jasper(*arguments).code == 0
    assert set(files_of(target)) == set(before)
