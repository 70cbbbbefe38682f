"""Every YAML file that ships loads, is a mapping, and says nothing twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest
import yaml


class StrictLoader(yaml.SafeLoader):
    """The safe loader, which silently keeps the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is given twice", node.start_mark)
        return mapping


def load(text: str) -> dict[str, Any]:
    """The mapping a YAML document holds.

    Raises:
        ValueError: If the document is not a mapping with string keys.
        yaml.YAMLError: If it is not YAML, or a key is given twice.
    """
    value = yaml.load(text, Loader=StrictLoader)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"expected a mapping with string keys, got {type(value).__name__}")
    return value


def yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in {".yaml", ".yml"})


@pytest.mark.slow
def test_every_shipped_yaml_loads(repository: Path) -> None:
    configs = repository / "configs"
    files = [*yaml_files(configs), *yaml_files(repository / "examples")]
    assert files or not (configs.exists() and any(configs.iterdir()))
    for path in files:
        assert load(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", [".pre-commit-config.yaml", "CITATION.cff"])
def test_the_repositorys_own_yaml_loads(repository: Path, name: str) -> None:
    assert load((repository / name).read_text(encoding="utf-8"))


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="given twice"):
        load("training:\n  epochs: 1\n  epochs: 2\n")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "1: a\n"])
def test_anything_but_a_mapping_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a mapping"):
        load(text)
