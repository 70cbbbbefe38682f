from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.errors import InputError


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "too short."),
        ({"path": "a.csv"}, "a.csv: too short."),
        ({"path": Path("a.csv"), "line": 3}, "a.csv:3: too short."),
        ({"path": "a.csv", "line": 3, "field": "text"}, "a.csv:3 [text]: too short."),
        ({"field": "text"}, "[text]: too short."),
        ({"path": "a.csv", "remedy": "Add words."}, "a.csv: too short.\n  Add words."),
    ],
)
def test_the_message_says_where_and_how_to_mend_it(place: dict[str, object], message: str) -> None:
    error = InputError("too short.", **place)  # type: ignore[arg-type]
    assert str(error) == message
    assert isinstance(error, ValueError)
    assert error.problem == "too short."
    assert error.path == (None if "path" not in place else Path("a.csv"))
