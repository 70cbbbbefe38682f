"""YAML as people write it: plain values only, and `1e-4` is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from jasper_rag import atomic_files
from jasper_rag.errors import InputError


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses doubled keys and reads YAML 1.2 floats.

    PyYAML follows YAML 1.1, where `1e-4` without a dot is a string.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes the strings which the loader would take for a float."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: The file is missing, is not YAML, or does not hold a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such file.", path=path, remedy="Give the path of a YAML file.")
    try:
        # A subclass of SafeLoader: no tag can build an object.
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text ({error.reason}).", path=path, remedy="Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise InputError(f"not valid YAML: {problem}.", path=path, line=line, remedy="Mend the line.") from error
    except RecursionError as error:
        raise InputError("nested too deeply to be read.", path=path, remedy="Write key: value.") from error
    except ValueError as error:
        # E.g. 2024-13-45, which looks like a date.
        remedy = "Put quotes around text that looks like a date or a number."
        raise InputError(f"holds a value that cannot be read: {error}.", path=path, remedy=remedy) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"holds a {type(value).__name__}, not keys and values.", path=path, remedy="Write key: value.")
    return value


def write_yaml(path: str | Path, value: dict[str, Any]) -> None:
    """Write `value` atomically, keys in the order given."""
    atomic_files.write_text(path, yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
