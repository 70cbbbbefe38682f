"""Nothing the product reads is ever unpickled: an AST check over everything that ships."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

FOLDERS = ("src", "scripts", "examples", "benchmarks")
PICKLERS = frozenset({"pickle", "_pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"})
# Without one of these words there is nothing to find; most files need not be parsed.
SUSPICIOUS = re.compile("|".join(["load", "pickle", "__import__", "import_module", *sorted(PICKLERS)]))


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """Dotted name of an attribute chain with import aliases resolved; empty if it is none."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, aliases)
        return f"{base}.{node.attr}" if base else ""
    return ""


def imports(tree: ast.Module) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Local name -> imported dotted name, and (line, dotted name) of everything imported."""
    aliases: dict[str, str] = {}
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((node.lineno, alias.name))
                if alias.asname:
                    aliases[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module or ''}.{alias.name}"
                found.append((node.lineno, name))
                aliases[alias.asname or alias.name] = name
    return aliases, found


def is_literal(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def is_torch_load(name: str) -> bool:
    return name in {"torch.load", "torch.serialization.load"}


def may_be_torch_load(node: ast.AST) -> TypeGuard[ast.Name | ast.Attribute]:
    """Cheap: whether resolving the name is worth while."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and node.attr == "load")


def unsafe_calls(node: ast.Call, aliases: dict[str, str]) -> Iterator[str]:
    """What one call does that could unpickle."""
    name = dotted(node.func, aliases)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if is_torch_load(name) and not is_literal(keywords.get("weights_only"), True):
        yield "torch.load without a literal weights_only=True"
    if "allow_pickle" in keywords and not is_literal(keywords["allow_pickle"], False):
        yield "allow_pickle"
    if name.rpartition(".")[2] == "read_pickle":
        yield name
    if name in {"__import__", "importlib.import_module"}:
        yield from (
            f"imports {argument.value}"
            for argument in node.args
            if isinstance(argument, ast.Constant)
            and isinstance(argument.value, str)
            and argument.value.split(".")[0] in PICKLERS
        )


def violations(source: str) -> list[str]:
    """`line: what` for everything in `source` that unpickles or might."""
    if not SUSPICIOUS.search(source):
        return []
    tree = ast.parse(source)
    aliases, imported = imports(tree)
    found = [(line, f"imports {name}") for line, name in imported if name.split(".")[0] in PICKLERS]
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in unsafe_calls(node, aliases)]
        elif may_be_torch_load(node) and is_torch_load(dotted(node, aliases)):
            # Handed around (a partial, a variable) it could be called with anything.
            if id(node) not in called:
                found.append((node.lineno, "torch.load not called in place"))
        elif isinstance(node, ast.Constant) and node.value == "allow_pickle":
            found.append((node.lineno, "allow_pickle as a string"))
    return [f"{line}: {what}" for line, what in sorted(found)]


def test_nothing_is_unpickled(repository: Path) -> None:
    files = [path for folder in FOLDERS for path in sorted((repository / folder).rglob("*.py"))]
    assert files
    found = [
        f"{path.relative_to(repository)}:{violation}"
        for path in files
        for violation in violations(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib as j",
        "from cloudpickle import loads",
        "def f():\n    import dill.source",
        "import importlib\nimportlib.import_module('shelve')",
        "__import__('pickle')",
        "import numpy as np\nnp.load('a.npy', allow_pickle=True)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=flag)",
        "import numpy as np\nnp.load('a.npy', **{'allow_pickle': True})",
        "import pandas as pd\npd.read_pickle('a')",
        "import torch\ntorch.load('a.pt')",
        "import torch as t\nt.load('a.pt', weights_only=False)",
        "import torch\ntorch.load('a.pt', weights_only=safe)",
        "from torch import load\nload('a.pt')",
        "from torch import load as read\nread('a.pt')",
        "import torch\nfrom functools import partial\npartial(torch.load, weights_only=True)",
    ],
)
def test_unpickling_is_found(source: str) -> None:
    assert len(violations(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('a.pt', map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=False)",
        "import json\njson.load(open('a'))",
        "from safetensors.torch import load_file\nload_file('a')",
    ],
)
def test_safe_reading_passes(source: str) -> None:
    assert violations(source) == []
