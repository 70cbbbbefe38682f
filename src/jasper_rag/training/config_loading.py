"""Settings in sections, from a file and overrides, with errors that say what to write instead."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from jasper_rag.errors import InputError
from jasper_rag.yaml_files import read_yaml

_Settings = TypeVar("_Settings", bound=BaseModel)
Aliases = Mapping[str, str]
"""Dotted spelling -> dotted key."""

_CLOSE = 0.6
_LONGEST_VALUE = 60
_PROBLEMS = {
    "missing": "is missing",
    "string_pattern_mismatch": "is not one of its values",
    "string_too_short": "must not be empty",
    "model_type": "must hold keys and values",
    "tuple_type": "must be a list",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
}
"""In words of our own, by the type that pydantic gives an error."""


def load_sections(
    model: type[_Settings], path: str | Path | None, overrides: Mapping[str, Any] | None, aliases: Aliases
) -> _Settings:
    """Defaults, overlaid by a YAML file, overlaid by `overrides`.

    Args:
        model: The class of settings; its fields are sections.
        path: YAML file; None for defaults only.
        overrides: Dotted key -> value; None values are skipped.
        aliases: Other spellings of keys, in the file and in `overrides`.

    Raises:
        InputError: The file cannot be read, or holds an unknown key or a value that is not allowed: the key, what was
            given, what is allowed and the nearest known key are named.
    """
    values = {} if path is None else resolved(read_yaml(path), aliases, path)
    for key, value in (overrides or {}).items():
        if value is not None:
            _overlay(values, aliases.get(key, key), value)
    return validated(model, values, path)


def validated(model: type[_Settings], values: Mapping[str, Any], path: str | Path | None = None) -> _Settings:
    """The settings in `values`; errors as `load_sections`."""
    for key, value in _scalars(values):
        field = _field(model, key)
        if isinstance(value, bool) and field is not None and bool not in _kinds(field.annotation):
            remedy = _about(model, key)
            raise InputError(f"must not be {_shown(value)}.", path=path, field=".".join(key), remedy=remedy)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_input_error(model, error, path) from error


def resolved(values: Mapping[str, Any], aliases: Aliases, path: str | Path | None = None) -> dict[str, Any]:
    """A copy in which aliases have become the keys they stand for and empty sections hold nothing.

    Raises:
        InputError: A key stands there in both spellings.
    """
    values = {name: dict(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    values = {name: {} if part is None else part for name, part in values.items()}
    for alias, key in aliases.items():
        section, old = alias.split(".")
        new = key.split(".")[1]
        inside = values.get(section)
        if not isinstance(inside, dict) or old not in inside:
            continue
        if new in inside:
            remedy = f"They are one setting: keep `{new}`."
            raise InputError(f"given beside `{new}`.", path=path, field=alias, remedy=remedy)
        inside[new] = inside.pop(old)
    return values


def _overlay(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for position, section in enumerate(sections):
        inside = values.setdefault(section, {})
        if inside is None:
            inside = values[section] = {}
        if not isinstance(inside, dict):
            field = ".".join(sections[: position + 1])
            raise InputError("must hold keys and values.", field=field, remedy=f"Write its keys below `{section}:`.")
        values = inside
    values[last] = value


def _as_input_error(model: type[BaseModel], error: ValidationError, path: str | Path | None) -> InputError:
    found = error.errors(include_url=False)
    first = found[0]
    key = tuple(first["loc"])
    others = sorted({".".join(map(str, other["loc"])) for other in found[1:]} - {".".join(map(str, key))})
    if first["type"] == "extra_forbidden":
        problem, remedy = "unknown key", _nearest(model, key)
    elif first["type"] == "value_error":
        problem, remedy = first["msg"].removeprefix("Value error, "), "Change the values so that they fit together."
    else:
        problem = _PROBLEMS.get(first["type"]) or first["msg"].removeprefix("Input ").replace("should", "must")
        problem += "" if first["type"] == "missing" else f"; got {_shown(first['input'])}"
        remedy = _alike(first) + _about(model, key)
    remedy += f"\n  Also wrong: {', '.join(others)}." if others else ""
    return InputError(f"{problem}.", path=path, field=".".join(map(str, key)) or None, remedy=remedy)


def _nearest(model: type[BaseModel], key: tuple[int | str, ...]) -> str:
    """The known key that an unknown one was probably meant to be, here or in another section."""
    name, here = str(key[-1]), _keys(model, key[:-1])
    spelled = {known.lower(): known for known in here}
    if close := difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=_CLOSE):
        return f"Did you mean {spelled[close[0]]!r}?"
    elsewhere = {known: section for section in model.model_fields for known in _keys(model, (section,))}
    if close := difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.8):
        hint = "It belongs" if close[0] == name else f"Did you mean {close[0]!r}, which belongs"
        return f"{hint} in the section `{elsewhere[close[0]]}:`{'.' if close[0] == name else '?'}"
    return f"Known here: {', '.join(here)}."


def _alike(found: Any) -> str:
    """The allowed word that is nearest to a wrong one."""
    if found["type"] != "literal_error":
        return ""
    words = [word.strip("'") for word in found["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    spelled = {word.lower(): word for word in words}
    close = difflib.get_close_matches(str(found["input"]).lower(), spelled, n=1, cutoff=_CLOSE)
    return f"Did you mean {spelled[close[0]]!r}? " if close else ""


def _about(model: type[BaseModel], key: tuple[int | str, ...]) -> str:
    """What a key is for and what it is by default."""
    field = _field(model, key)
    if field is None:
        return "Write sections with keys and values."
    if _models(field.annotation):
        return f"Known there: {', '.join(_keys(model, key))}."
    default = "" if field.is_required() else f" Default: {_shown(field.get_default(call_default_factory=True))}."
    return f"{key[-1]}: {field.description or 'see the documentation.'}{default}"


def _shown(value: Any) -> str:
    """A value as YAML has it, clipped."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _field(model: type[BaseModel], key: tuple[int | str, ...]) -> FieldInfo | None:
    """The field that a dotted key names; positions in lists are passed over."""
    field, known = None, [model]
    for name in key:
        if isinstance(name, int):
            continue
        owners = [owner for owner in known if name in owner.model_fields]
        if not owners:
            return None
        field = owners[0].model_fields[name]
        known = _models(field.annotation)
    return field


def _keys(model: type[BaseModel], key: tuple[int | str, ...]) -> list[str]:
    """Keys known below a dotted one; of the settings themselves for ()."""
    field = _field(model, key)
    owners = [model] if not key else [] if field is None else _models(field.annotation)
    return [name for owner in owners for name in owner.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Classes of settings anywhere in an annotation, e.g. in `tuple[X, ...] | None`."""
    return [kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _kinds(annotation: Any) -> list[Any]:
    """The plain types in an annotation."""
    if annotation is None or annotation is types.NoneType or annotation is Ellipsis:
        return []
    inside = typing.get_args(annotation)
    if not inside:
        return [annotation]
    if typing.get_origin(annotation) is typing.Literal:
        return [type(word) for word in inside]
    return [kind for part in inside for kind in _kinds(part)]


def _scalars(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, (*above, str(name)))
        else:
            yield (*above, str(name)), value
