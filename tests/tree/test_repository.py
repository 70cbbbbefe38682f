"""The house's measures, and the promises that files of the repository make about each other."""

from __future__ import annotations

import ast
import re
import socket
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import pytest_socket
import yaml

SHIPPED = ("src", "scripts", "examples", "benchmarks")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
BANNED_STEMS = frozenset({"utils", "util", "helpers", "helper", "manager", "common", "misc"})
# Raising NotImplementedError; catching a library's own is fine.
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|raise\s+NotImplementedError)\b")


def python_files(repository: Path, *folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((repository / folder).rglob("*.py"))]


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the last statement, the docstring left out."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def catches_all(node: ast.ExceptHandler) -> bool:
    """True if a handler takes every exception and does not raise it again."""
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {"" if kind is None else ast.unparse(kind) for kind in kinds}
    re_raises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    return bool(names & {"", "Exception", "BaseException"}) and not re_raises


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements and handlers below, without the expressions they are made of."""
    for node in nodes:
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield node
            yield from statements(ast.iter_child_nodes(node))


def violations(source: str, *, may_print: bool) -> Iterator[str]:
    """`line: what` for everything in one file that breaks a measure of the house."""
    if (lines := source.count("\n")) > MAX_FILE_LINES:
        yield f"{lines}: a file of more than {MAX_FILE_LINES} lines"
    tree = ast.parse(source)
    for node in statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and function_lines(node) > MAX_FUNCTION_LINES:
            yield f"{node.lineno}: {node.name} has more than {MAX_FUNCTION_LINES} lines"
        if isinstance(node, ast.ExceptHandler) and catches_all(node):
            yield f"{node.lineno}: a broad except"
    for node in ast.walk(tree) if "print" in source and not may_print else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{node.lineno}: print"


def test_files_and_functions_keep_the_measures(repository: Path) -> None:
    found = []
    for path in python_files(repository, *SHIPPED, "tests"):
        name = path.relative_to(repository).as_posix()
        may_print = not name.startswith("src/") or name.startswith("src/jasper_rag/cli/")
        text = path.read_text(encoding="utf-8")
        found += [f"{name}:{violation}" for violation in violations(text, may_print=may_print)]
    assert found == []


@pytest.mark.slow
def test_nothing_is_left_unfinished(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()}"
        for path in python_files(repository, *SHIPPED)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_no_module_is_a_drawer(repository: Path) -> None:
    assert [path for path in python_files(repository, *SHIPPED) if path.stem in BANNED_STEMS] == []


def test_the_architecture_page_names_every_folder(repository: Path) -> None:
    page = (repository / "docs/architecture.md").read_text(encoding="utf-8")
    children = [path for path in (repository / "src/jasper_rag").iterdir() if not path.name.startswith("__")]
    names = [f"`{path.name}/`" for path in children if path.is_dir()]
    names += [f"`{path.name}`" for path in children if path.suffix == ".py"]
    assert names
    assert [name for name in sorted(names) if name not in page] == []


def test_links_between_pages_lead_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), *repository.glob("agents_notes/*.md")]
    broken = [
        f"{page.relative_to(repository)}: {link}"
        for page in sorted(pages)
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_one_version_everywhere(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = re.findall(
        r"^## \[(\d[^\]]*)\]", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert str(citation["version"]) == project["version"] == changelog[0]
    assert citation["license"] == project["license"]


def test_every_core_dependency_is_pinned(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {normalised(line) for line in [*project["dependencies"], *extras["demo"], *extras["dev"]]}
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert wanted - {normalised(pin) for pin in pins} == set()


def normalised(requirement: str) -> str:
    """Name of a requirement, spelt as PEP 503 compares names."""
    name = re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("package", ["jasper_rag", "RAG_supporters", "ragcun"])
def test_types_ship(repository: Path, package: str) -> None:
    assert (repository / "src" / package / "py.typed").exists()


def test_the_network_is_out_of_reach() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
        pytest.raises(pytest_socket.SocketConnectBlockedError),
    ):
        connection.connect(("192.0.2.1", 80))  # TEST-NET-1, RFC 5737: nobody's address


def test_the_loopback_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        assert connection.getpeername() == server.getsockname()


LONG = "def f():\n    '''One.\n\n    Two.\n    '''\n" + "    x = 1\n" * 59


@pytest.mark.parametrize(
    ("source", "violation"),
    [
        (LONG, ""),
        (LONG + "    y = 2\n", "1: f has more than"),
        ("x = 1\n" * 300, ""),
        ("x = 1\n" * 301, "301: a file of more than"),
        ("print(1)", "1: print"),
        ("try:\n    x\nexcept Exception:\n    pass", "3: a broad except"),
        ("try:\n    x\nexcept:\n    pass", "3: a broad except"),
        ("try:\n    x\nexcept (OSError, BaseException) as e:\n    raise ValueError from e", "3: a broad except"),
        ("try:\n    x\nexcept BaseException:\n    clean()\n    raise", ""),
        ("try:\n    x\nexcept OSError:\n    pass", ""),
    ],
)
def test_a_broken_measure_is_found(source: str, violation: str) -> None:
    found = list(violations(source, may_print=False))
    assert len(found) == bool(violation)
    assert all(line.startswith(violation) for line in found)
