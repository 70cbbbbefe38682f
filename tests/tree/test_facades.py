"""Every public name of a façade is the core's own object."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FACADES = ("RAG_supporters", "ragcun")


def facade_modules() -> Iterator[str]:
    """Dotted names of every module of every façade."""
    for facade in FACADES:
        package = importlib.import_module(facade)
        yield facade
        yield from (module.name for module in pkgutil.walk_packages(package.__path__, f"{facade}."))


def re_exports(path: Path) -> dict[str, tuple[str, str]]:
    """Name in the façade -> (core module, name there), read from the import statements."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    return {
        alias.asname or alias.name: (statement.module or "", alias.name)
        for statement in statements
        if isinstance(statement, ast.ImportFrom) and statement.module != "__future__"
        for alias in statement.names
    }


@pytest.mark.parametrize("name", sorted(facade_modules()))
def test_names_are_the_cores_own_objects(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    exported = re_exports(Path(module.__file__))
    for public, (origin, original) in exported.items():
        assert getattr(module, public) is getattr(importlib.import_module(origin), original)
    assert set(getattr(module, "__all__", exported)) == set(exported)


@pytest.mark.parametrize("name", sorted(facade_modules()))
def test_a_facade_file_says_what_it_is(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_re_exports_are_read_from_the_source(tmp_path: Path) -> None:
    path = tmp_path / "names.py"
    path.write_text(
        "from __future__ import annotations\nfrom jasper_rag.a import X as X, Y as JEPAY\n", encoding="utf-8"
    )
    assert re_exports(path) == {"X": ("jasper_rag.a", "X"), "JEPAY": ("jasper_rag.a", "Y")}
