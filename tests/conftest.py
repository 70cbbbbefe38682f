"""The environment of every test: offline, deterministic, nothing written outside temporary directories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Derandomised and without a deadline: a run on a busy machine gives what the last one gave.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module is imported, so that subprocesses inherit it too."""
    cache = tempfile.TemporaryDirectory(prefix="jasper-tests-")
    config.stash[_CACHE] = cache
    os.environ["JASPER_CACHE"] = cache.name
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["MPLBACKEND"] = "Agg"
    # One thread: sums in one order, and no oversubscription. Set here, not through torch, so light tests stay light.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the tests' cache."""
    config.stash[_CACHE].cleanup()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the working tree."""
    return Path(__file__).resolve().parents[1]
