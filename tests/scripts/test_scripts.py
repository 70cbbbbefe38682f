"""The scripts, as a user starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def started(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **environment}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=given)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["prepare_data.py", "download_msmarco.py"])
def test_help_and_bad_input(repository: Path, script: str) -> None:
    path = repository / "scripts" / script
    environment = {"PYTHONPATH": str(repository / "src")}
    wrong = started(sys.executable, path, "--no_such_flag", **environment)
    assert wrong.returncode == 2
    assert "no-such-flag" in wrong.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_gpu_info_is_shell_and_python_in_one(repository: Path, tmp_path: Path) -> None:
    path = repository / "scripts/0_gpu_info.sh"
    # A torch that is there at once: importing the real one takes seconds.
    (tmp_path / "torch.py").write_text(
        "__version__ = '9.9'\n"
        "def get_num_threads(): return 3\n"
        "class cuda:\n    is_available = staticmethod(lambda: False)\n"
        "class backends:\n    mps = None\n"
    )
    searched = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": searched, "VIRTUAL_ENV": ""}
    as_python = started(sys.executable, path, **environment)
    as_shell = started("bash", path, **environment)
    assert as_python.returncode == as_shell.returncode == 0, as_shell.stderr
    assert as_python.stdout == as_shell.stdout
    lines = dict(line.split(None, 1) for line in as_python.stdout.splitlines())
    assert lines["torch"] == "9.9"
    assert lines["GPU"].startswith("none that torch can use")
    assert {"system", "python", "CPU", "memory"} <= lines.keys()
    assert os.access(path, os.X_OK)


@pytest.mark.slow
def test_gpu_info_without_torch(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    found = started(sys.executable, repository / "scripts/0_gpu_info.sh", PYTHONPATH=str(tmp_path))
    assert found.returncode == 0
    assert "not installed" in found.stdout
