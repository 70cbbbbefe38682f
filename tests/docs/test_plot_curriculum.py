from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_curriculum_is_drawn(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "mix.png"
    script = repository / "docs/dataset/plot_curriculum.py"
    subprocess.run([sys.executable, str(script), str(target)], check=True)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size < 60_000
