from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def crash(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("crash_benchmark", repository / "benchmarks" / "crash.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "crash_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_only_seconds_and_the_report_may_differ(crash: ModuleType) -> None:
    def run(seconds: float, ndcg: float, report: bytes) -> dict[str, bytes]:
        metrics = {"systems": [{"jasper": {"train_seconds": seconds, "ndcg@10": ndcg}}]}
        return {"metrics.json": json.dumps(metrics).encode(), "report.html": report, "model/x": b"1"}

    first = crash.timeless(run(1.0, 0.5, b"took 1 s</html>\n"))
    assert crash.differences(first, crash.timeless(run(2.0, 0.5, b"took 2 s</html>"))) == []
    assert crash.differences(first, crash.timeless(run(1.0, 0.6, b"took"))) == ["metrics.json", "report.html"]
    assert crash.differences(first, {**first, "model/x": b"2", ".lock": b""}) == [".lock", "model/x"]
    assert crash.timeless({}) == {}


def test_the_table_counts_by_phase_and_names_the_faults(crash: ModuleType) -> None:
    survivals = [
        crash.Survival(0.1, True, False, "train", "old", 300, ()),
        crash.Survival(0.2, True, True, "save", "new", 300, ("after the second try another model/x",)),
        crash.Survival(0.3, False, True, "save", "nothing", 0, ()),
    ]
    lines = crash.table(survivals).splitlines()
    assert "| train | 1 | 0 | 1 | 0 | 1 of 1 | 0 |" in lines
    assert "| save | 2 | 1 | 0 | 1 | 1 of 2 | 1 |" in lines
    assert "| all | 3 | 1 | 1 | 1 | 2 of 3 | 1 |" in lines
    assert lines[-1] == "kill at 0.2 s (save): after the second try another model/x"


@pytest.mark.slow
def test_three_kills_lose_nothing(repository: Path, tmp_path: Path) -> None:
    script, output = repository / "benchmarks" / "crash.py", tmp_path / "kills.json"
    command = [sys.executable, str(script), "--kills", "3", "--encoder", "tiny", "--output", str(output)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    kills = json.loads(output.read_text(encoding="utf-8"))
    assert [kill["faults"] for kill in kills] == [[]] * 3
    assert {kill["left"] for kill in kills} <= {"nothing", "old", "new"}
