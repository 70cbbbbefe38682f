from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.yaml_files import read_yaml, write_yaml


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2e+3", -2e3),
        ("+5e0", 5.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("1_000e-3", 1.0),
        ("1.5e-4", 1.5e-4),
        ("0.1", 0.1),
        (".inf", float("inf")),
    ],
)
def test_floats(tmp_path: Path, text: str, value: float) -> None:
    found = read(tmp_path, f"rate: {text}\n")["rate"]
    assert isinstance(found, float)
    assert found == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("true", True),
        ("no", False),
        ("null", None),
        ("e5", "e5"),
        ("1e", "1e"),
        ("1e-4x", "1e-4x"),
        ("'1e-4'", "1e-4"),
        ("._e1", "._e1"),
        ("a1e4", "a1e4"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("[1e-4, x]", [1e-4, "x"]),
    ],
)
def test_everything_else_stays_what_it_is(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert type(found) is type(value)
    assert found == value


def test_keys_nest_and_an_empty_file_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path, "a:\n  b: 1e-3 # why\nc: é\n") == {"a": {"b": 1e-3}, "c": "é"}
    assert read(tmp_path, "") == read(tmp_path, "# nothing yet\n") == {}


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid YAML: mapping values are not allowed here") as caught:
        read(tmp_path, "a: 1\nb: 2\nc: d: e\n")
    assert caught.value.line == 3
    assert caught.value.path == tmp_path / "settings.yaml"
    assert "settings.yaml:3" in str(caught.value)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []\n", "a: !!python/name:os.getcwd\n"])
def test_no_tag_builds_an_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not valid YAML: could not determine a constructor"):
        read(tmp_path, text)


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "list"), ("word\n", "str"), ("1e-4\n", "float")])
def test_only_keys_and_values_will_do(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"holds a {kind}, not keys and values"):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["day: 2024-13-45\n", "bits: 0b_\n"])
def test_a_value_that_only_looks_like_a_date_or_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="holds a value that cannot be read") as caught:
        read(tmp_path, text)
    assert "quotes" in caught.value.remedy


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: there is no such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="there is no such file"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_yaml(str(tmp_path / "latin.yaml"))
    (tmp_path / "control.yaml").write_text("a: \x00\n", encoding="utf-8")
    with pytest.raises(InputError, match="not valid YAML: special characters are not allowed"):
        read_yaml(tmp_path / "control.yaml")


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    value = {"z": 1e-4, "a": {"text": "grün", "flag": True, "nothing": None}, "m": [1, 2.5, "1e-4"]}
    write_yaml(tmp_path / "new" / "out.yaml", value)
    found = read_yaml(tmp_path / "new" / "out.yaml")
    assert found == value
    assert list(found) == ["z", "a", "m"]
    assert "grün" in (tmp_path / "new" / "out.yaml").read_text(encoding="utf-8")
