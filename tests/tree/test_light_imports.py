"""`import jasper_rag` and `--help` answer at once: nothing heavy is loaded for them."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = frozenset(
    {
        "torch",
        "transformers",
        "sentence_transformers",
        "matplotlib",
        "scipy",
        "sklearn",
        "pandas",
        "datasets",
        "pyarrow",
        "bm25s",
    }
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with an import trace on stderr."""
    command = [sys.executable, "-X", "importtime", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def loaded(trace: str) -> set[str]:
    """Top-level packages named in an `-X importtime` trace: `import time: self | cumulative | name`."""
    lines = (line for line in trace.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.slow
def test_importing_the_package_is_light() -> None:
    result = python("-c", "import jasper_rag")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "jasper_rag" in loaded(result.stderr)
    assert loaded(result.stderr) & HEAVY == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        [],
        *(
            [verb]
            for verb in (
                "fetch",
                "fit",
                "build",
                "train",
                "train-encoder",
                "inspect",
                "mine",
                "prepare",
                "search",
                "explain",
                "evaluate",
                "evaluate-encoder",
                "export",
                "demo",
            )
        ),
    ],
    ids=lambda verb: " ".join(verb) or "-",
)
def test_help_is_light(verb: list[str]) -> None:
    result = python("-m", "jasper_rag.cli.main", *verb, "--help")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Usage" in result.stdout
    assert loaded(result.stderr) & HEAVY == set()


@pytest.mark.slow
def test_help_answers_in_half_a_second() -> None:
    # Processor time, best of three: a busy machine must not decide.
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "jasper_rag.cli.main", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.5


@pytest.mark.slow
def test_a_loaded_package_is_seen() -> None:
    assert "sqlite3" in loaded(python("-c", "import sqlite3.dbapi2").stderr)
    assert "sqlite3" not in loaded(python("-c", "pass").stderr)
