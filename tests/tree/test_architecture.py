"""The import rings of docs/architecture.md, checked over the import graph; functions and TYPE_CHECKING included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "jasper_rag"
FACADES = ("RAG_supporters", "ragcun")

# Lowest first. A ring is a row of cells; a cell may import itself and every lower ring.
RINGS: tuple[tuple[frozenset[str], ...], ...] = (
    (frozenset({"errors", "file_locks", "atomic_moves", "atomic_files", "yaml_files", "progress", "dataset_layout"}),),
    (frozenset({"text"}), frozenset({"models", "losses", "metrics"})),
    (frozenset({"embedding"}),),
    (frozenset({"build"}), frozenset({"data"})),
    (frozenset({"training"}), frozenset({"retrieval"})),
    (frozenset({"evaluation", "explain"}),),
    (frozenset({"jasper_config", "encoder_choice", "serving"}),),
    (frozenset({"fitting"}), frozenset({"pair_preparation"})),
    (frozenset({"jasper"}),),
    (
        frozenset({"run_directory", "run_report"}),
        frozenset({"batch_search"}),
        frozenset({"export"}),
        frozenset({"integrations"}),
    ),
    # The package root, as a name to import from: for the command line only.
    (frozenset({""}),),
    (frozenset({"cli"}),),
)
PLACES = {name: (ring, cell) for ring, cells in enumerate(RINGS) for cell in cells for name in cell}

# Too slow to load where only strings, settings or files are handled.
HEAVY = frozenset(
    {"torch", "transformers", "sentence_transformers", "matplotlib", "scipy", "sklearn", "bm25s", "pyarrow"}
)

Graph = Mapping[str, frozenset[str]]


def module_name(path: Path, source: Path) -> str:
    """Dotted name of a file below the source root; a package's `__init__` has the package's name."""
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every dotted name an import statement anywhere in `tree` may refer to, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            ancestors = module.split(".")
            up = node.level - 1 if is_package else node.level
            base = ".".join(ancestors[: len(ancestors) - up]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_graph(source: Path) -> Graph:
    """Module -> modules of the package that it imports."""
    files = {module_name(path, source): path for path in sorted((source / PACKAGE).rglob("*.py"))}
    graph: dict[str, frozenset[str]] = {}
    for module, path in files.items():
        edges = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in imported_names(tree, module, path.name == "__init__.py"):
            if name.split(".")[0] != PACKAGE:
                continue
            # `from a.b import c`: the module a.b.c where there is one, else the name c of a.b.
            while name not in files and "." in name:
                name = name.rpartition(".")[0]
            edges.add(name)
        graph[module] = frozenset(edges - {module})
    return graph


def cell_name(module: str) -> str:
    """First name below the package: the file or folder that has a place in the rings."""
    return module.split(".")[1] if "." in module else ""


def ring_violations(graph: Graph) -> list[str]:
    """One line for every module without a place and every import against the rings."""
    found = [f"{module}: has no place in the rings" for module in graph if cell_name(module) not in PLACES]
    for module, imports in graph.items():
        for imported in sorted(imports):
            here, there = PLACES.get(cell_name(module)), PLACES.get(cell_name(imported))
            if here is None or there is None or here == there or there[0] < here[0]:
                continue
            found.append(
                f"{module} imports {imported}: {'a higher' if there[0] > here[0] else 'a neighbour of its'} ring"
            )
    return found


def cycle(graph: Graph) -> list[str]:
    """Modules of one import cycle in order, or nothing."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                if loop := visit(imported, [*trail, module]):
                    return loop
            done.add(module)
        return []

    return next((loop for module in sorted(graph) if (loop := visit(module, []))), [])


def heavy_imports(source: Path) -> list[str]:
    """Heavy libraries loaded with ring 0, `text/` or a `*_config.py`; torch has no place in `text/` at all."""
    found = []
    for path in sorted((source / PACKAGE).rglob("*.py")):
        module = module_name(path, source)
        cell = cell_name(module)
        if not (cell == "text" or PLACES.get(cell, (1,))[0] == 0 or path.stem.endswith("_config")):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        roots = {name.split(".")[0] for name in imported_names(at_import, module, path.name == "__init__.py")} & HEAVY
        if cell == "text":
            roots |= {name.split(".")[0] for name in imported_names(tree, module, False)} & {"torch"}
        found += [f"{module} imports {root}" for root in sorted(roots)]
    return found


def facade_violations(source: Path) -> list[str]:
    """Statements of a façade other than a docstring, `from jasper_rag... import X [as X]` and `__all__`."""
    found = []
    for path in sorted(path for facade in FACADES for path in (source / facade).rglob("*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Expr(value=ast.Constant(value=str())):
                    continue
                case ast.ImportFrom(module="__future__"):
                    continue
                case ast.ImportFrom(level=0, module=str(module), names=names) if module.split(".")[
                    0
                ] == PACKAGE and all(alias.asname and alias.name != "*" for alias in names):
                    continue
                case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AnnAssign(target=ast.Name(id="__all__")):
                    continue
            found.append(f"{path.relative_to(source)}:{statement.lineno}: {ast.unparse(statement).splitlines()[0]}")
    return found


@pytest.fixture(scope="module")
def graph(repository: Path) -> Graph:
    """What imports what in the package."""
    return import_graph(repository / "src")


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A small tree that breaks no rule."""
    write(tmp_path, "jasper_rag/__init__.py", "from jasper_rag.text.records import Query as Query")
    write(tmp_path, "jasper_rag/errors.py", "")
    write(tmp_path, "jasper_rag/text/__init__.py", "")
    write(tmp_path, "jasper_rag/text/records.py", "from ..errors import InputError")
    write(tmp_path, "jasper_rag/retrieval/fusion.py", "from jasper_rag.text import records")
    write(tmp_path, "jasper_rag/cli/main.py", "from jasper_rag import Query")
    write(tmp_path, "ragcun/__init__.py", '"""Names."""\nfrom jasper_rag.text.records import Query as Query')
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_imports_follow_the_rings(graph: Graph) -> None:
    assert "jasper_rag.errors" in graph
    assert ring_violations(graph) == []


def test_no_import_cycles(graph: Graph) -> None:
    assert cycle(graph) == []


@pytest.mark.slow
def test_light_parts_import_nothing_heavy(repository: Path) -> None:
    assert heavy_imports(repository / "src") == []


def test_facades_only_re_export(repository: Path) -> None:
    assert facade_violations(repository / "src") == []


def test_the_graph_resolves_relative_and_package_imports(made_up: Path) -> None:
    graph = import_graph(made_up)
    assert graph["jasper_rag.text.records"] == {"jasper_rag.errors"}
    assert graph["jasper_rag.retrieval.fusion"] == {"jasper_rag.text.records"}
    assert graph["jasper_rag.cli.main"] == {"jasper_rag"}
    assert (ring_violations(graph), cycle(graph), heavy_imports(made_up), facade_violations(made_up)) == (
        [],
        [],
        [],
        [],
    )


@pytest.mark.parametrize(
    ("name", "text", "violation"),
    [
        ("text/keywords.py", "import jasper_rag.embedding", "a higher ring"),
        ("retrieval/late.py", "def f():\n    from jasper_rag.training.loop import fit", "a neighbour of its ring"),
        ("build/late.py", "if TYPE_CHECKING:\n    from ..data import loader", "a neighbour of its ring"),
        ("metrics/topk.py", "from jasper_rag.text.records import Query", "a neighbour of its ring"),
        ("evaluation/table.py", "from jasper_rag import Query", "a higher ring"),
        ("utils.py", "", "has no place"),
    ],
)
def test_a_bad_edge_is_found(made_up: Path, name: str, text: str, violation: str) -> None:
    for target in ("embedding/__init__", "training/loop", "data/__init__", "data/loader"):
        write(made_up, f"jasper_rag/{target}.py", "")
    write(made_up, f"jasper_rag/{name}", text)
    found = ring_violations(import_graph(made_up))
    assert len(found) == 1
    assert violation in found[0]


def test_a_cycle_is_found(made_up: Path) -> None:
    write(made_up, "jasper_rag/errors.py", "def f():\n    from jasper_rag.progress import bar")
    write(made_up, "jasper_rag/progress.py", "from .errors import InputError")
    assert cycle(import_graph(made_up)) == ["jasper_rag.errors", "jasper_rag.progress", "jasper_rag.errors"]


def test_a_heavy_import_is_found(made_up: Path) -> None:
    write(made_up, "jasper_rag/training/run_config.py", "import scipy.stats")
    write(made_up, "jasper_rag/text/parquet.py", "def f():\n    import pyarrow")
    write(made_up, "jasper_rag/text/tensors.py", "def f():\n    import torch")
    expected = ["jasper_rag.text.tensors imports torch", "jasper_rag.training.run_config imports scipy"]
    assert heavy_imports(made_up) == expected


@pytest.mark.parametrize(
    "text",
    [
        "import jasper_rag",
        "from jasper_rag.text.records import Query",
        "from jasper_rag.text.records import *",
        "from .x import Query as Query",
        "def f(): ...",
        "Retriever = object",
    ],
)
def test_a_thick_facade_is_found(made_up: Path, text: str) -> None:
    write(made_up, "RAG_supporters/nn/__init__.py", text)
    assert facade_violations(made_up) == [f"RAG_supporters/nn/__init__.py:1: {text.removesuffix(' ...')}"]
