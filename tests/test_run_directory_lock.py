"""Two processes and one run directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.file_locks import LOCK, exclusive
from jasper_rag.jasper import Jasper
from jasper_rag.run_directory import write_fit, writing

HOLD = """
import sys
from pathlib import Path
from jasper_rag.run_directory import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.slow
def test_a_second_fit_is_refused_before_and_at_its_end(fitted: Jasper, tmp_path: Path) -> None:
    assert fitted.record is not None
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", HOLD, str(run)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=rf"another jasper is writing here \(pid {process.pid} "), writing(run):
            pytest.fail("held twice")
        with pytest.raises(InputError, match="another jasper is writing here"):
            write_fit(fitted, fitted.record, run)
        assert names(run) == [LOCK]
        process.kill()
    with writing(run):
        write_fit(fitted, fitted.record, run)  # within the block its own lock is no obstacle
        assert LOCK in names(run)
    assert LOCK not in names(run)
    assert len(Jasper.load(run).model.documents) == 160


def test_what_cannot_be_used_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"), writing(tmp_path / "file" / "run"):
        pytest.fail("held")
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "run"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file"]
    with exclusive(tmp_path / "run"), writing(tmp_path / "run"):
        pass
