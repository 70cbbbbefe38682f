"""A retrieval set from Python source: what a docstring promises -> the code that does it."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import re
import sys
import sysconfig
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import occurs_in
from jasper_rag.text.records import Document, Query, RetrievalSet

logger = logging.getLogger(__name__)

EXCLUDED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
"""Names of folders that are not read: other people's packages, and tests."""

LEFT_OUT_OF_STDLIB = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo"})
"""Packages of the standard library that Linux distributions ship apart or newer Pythons have dropped: without them
the set is nearly the same for every build of one Python version."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Pair(NamedTuple):
    question: str
    name: str
    code: str
    topic: str


def read_python_source(root: str | Path | None = None, min_words: int = 5) -> RetrievalSet:
    """Read pairs from every function and method with a docstring.

    The query is the docstring's first paragraph, its words joined by blanks; the document is titled with the
    qualified name (`module.Class.method`), its text is the signature and body without the docstring, comments
    kept; its topic is the top-level module or package. Equal queries become one with several relevant documents,
    equal documents one document. Left out: functions of nothing but a docstring, functions inside functions, and
    pairs whose code repeats the paragraph word for word. All judgements are in one split, "all"; see
    `jasper_rag.text.splitting`. CPython 3.11 gives about 4,400 pairs.

    Args:
        root: A folder of source; by default the running interpreter's standard library without
            `LEFT_OUT_OF_STDLIB`.
        min_words: A first paragraph of fewer words is no query.

    Raises:
        InputError: The folder does not exist or holds no such function.
    """
    folder = Path(sysconfig.get_paths()["stdlib"]) if root is None else Path(root)
    if not folder.is_dir():
        raise InputError("this folder does not exist.", remedy="Give a folder of Python source.", path=folder)
    name = f"python-{sys.version_info[0]}.{sys.version_info[1]}-stdlib" if root is None else folder.resolve().name
    collected = _Collected()
    files = 0
    for path in _python_files(folder, frozenset() if root is not None else LEFT_OUT_OF_STDLIB):
        files += 1
        for pair in _pairs_of_file(path, folder, min_words):
            collected.add(pair)
    if not collected.documents:
        raise InputError(
            f"{files} Python files, and no function with a docstring of at least {min_words} words.",
            remedy="Give a folder with documented functions, or a smaller min_words.",
            path=folder,
        )
    return collected.retrieval_set(name)


class _Collected:
    """Merges equal questions and equal documents as the pairs come in."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}  # by name and code
        self.queries: dict[str, Query] = {}  # by text
        self.times: dict[str, int] = {}  # how often a name was given to different code
        self.qrels: dict[str, dict[str, int]] = {}

    def add(self, pair: _Pair) -> None:
        key = (pair.name, pair.code)
        if key not in self.documents:
            times = self.times[pair.name] = self.times.get(pair.name, 0) + 1
            identifier = pair.name if times == 1 else f"{pair.name}#{times}"
            self.documents[key] = Document(identifier, pair.code, pair.name, pair.topic)
        document = self.documents[key]
        query = self.queries.setdefault(pair.question, Query(f"q:{document.id}", pair.question))
        self.qrels.setdefault(query.id, {})[document.id] = 1

    def retrieval_set(self, name: str) -> RetrievalSet:
        documents, queries = tuple(self.documents.values()), tuple(self.queries.values())
        return RetrievalSet(name, documents, queries, {"all": self.qrels})


def _python_files(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        excluded = EXCLUDED_FOLDERS | (left_out if Path(folder) == root else frozenset())
        below[:] = sorted(one for one in below if one not in excluded and not one.startswith("."))
        for file in sorted(files):
            if file.endswith(".py"):
                yield Path(folder) / file


def _pairs_of_file(path: Path, root: Path, min_words: int) -> Iterator[_Pair]:
    parsed = _parsed(path)
    if parsed is None:
        return
    source, tree = parsed
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    module = ".".join(parts) or root.resolve().name
    for qualified, function in _functions(tree, module):
        if len(function.body) == 1:
            continue  # a signature alone does nothing that a question could ask for
        docstring = function.body[0]
        words = inspect.cleandoc(ast.get_docstring(function, clean=False) or "")
        question = " ".join(re.split(r"\n\s*\n", words.strip(), maxsplit=1)[0].split())
        if len(question.split()) >= max(min_words, 1):
            code = _without_docstring(source, function, docstring)
            # Half a character (a lone surrogate escape) cannot be written to any file.
            if question.isprintable() and not occurs_in(question, code):
                yield _Pair(question, qualified, code, module.split(".", maxsplit=1)[0])


def _parsed(path: Path) -> tuple[list[bytes], ast.Module] | None:
    """Return the lines (UTF-8, as `ast` counts columns in UTF-8 bytes) and the tree; None if it does not parse."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in what we read are none of our user's business
            tree = ast.parse(text)
        return text.encode("utf-8").splitlines(keepends=True), tree
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        logger.info("%s left out: %s", path, error)
        return None


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """Yield (qualified name, function) for functions and methods, through classes, `if`, `try` and the like."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield f"{prefix}.{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _functions(child, prefix)


def _without_docstring(lines: list[bytes], function: _Function, docstring: ast.stmt) -> str:
    """Return the function's own source lines, comments kept, from `def` to its end, minus the docstring."""
    first, last = function.lineno - 1, (function.end_lineno or function.lineno) - 1
    opened, closed = docstring.lineno - 1, (docstring.end_lineno or docstring.lineno) - 1
    head = b"".join(lines[first:opened]) + lines[opened][: docstring.col_offset]
    tail = lines[closed][docstring.end_col_offset :] + b"".join(lines[closed + 1 : last + 1])
    after = re.sub(r"^[ \t]*;", "", tail.decode("utf-8"))
    after = re.sub(r"^[ \t]*\n(?:[ \t]*\n)*", "\n", after)
    return textwrap.dedent(head.decode("utf-8").rstrip() + after).strip()
