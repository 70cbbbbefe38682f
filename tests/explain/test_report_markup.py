from __future__ import annotations

import html
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.explain.report_markup import clip, escape, fixed, lines, p_value, seconds, signed


@pytest.mark.slow
@given(st.text())
def test_escaped_text_reads_back_and_breaks_nothing(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("<>\"'")
    assert html.unescape(escaped) == "".join(" " if _is_control(letter) else letter for letter in text)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" and letter not in "\t\n\r"


def test_half_surrogates_do_not_reach_the_file() -> None:
    assert escape("a\ud800b").encode("utf-8") == b"a?b"


@given(st.text(), st.integers(1, 40))
def test_clipped_text_fits_and_begins_the_text(text: str, columns: int) -> None:
    clipped = clip(text, columns)
    kept = clipped.removesuffix("\N{NO-BREAK SPACE}…")
    assert " ".join(text.split()).startswith(kept)
    width = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in kept)
    assert width <= columns
    assert "\n" not in clipped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("  two\n\tlines ", "two lines"),
        ("exactly 10", "exactly 10"),
        ("one two three", "one two …"),
        ("unbreakable", "unbreakabl …"),
        ("a unbreakable", "a unbreaka …"),
        ("日本語のテキスト", "日本語のテ …"),
        ("word" + " " * 100 + "later", "word …"),
        ("", ""),
    ],
)
def test_text_is_clipped_at_a_word_if_there_is_one(text: str, expected: str) -> None:
    assert clip(text, 10).replace("\N{NO-BREAK SPACE}", " ") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.500"), (-0.25, "−0.250"), (-0.0001, "0.000"), (1234.5, "1,234.500"), (None, "–")],  # noqa: RUF001
)
def test_numbers_have_three_decimals(value: float | None, expected: str) -> None:
    assert fixed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0734, "+0.073"), (-0.037, "−0.037"), (0.0004, "0.000"), (-0.0004, "0.000"), (0.0, "0.000")],  # noqa: RUF001
)
def test_differences_have_a_sign_unless_they_round_to_zero(value: float, expected: str) -> None:
    assert signed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0001, "< 0.001"), (0.001, "0.001"), (0.0817, "0.082"), (1.0, "1.000"), (None, "–")],  # noqa: RUF001
)
def test_p_values_are_never_zero(value: float | None, expected: str) -> None:
    assert p_value(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "–"),  # noqa: RUF001
        (None, "–"),  # noqa: RUF001
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.0, "119 s"),
        (412.0, "7 min"),
        (7200.0, "2.0 h"),
    ],
)
def test_durations_have_the_unit_people_use(value: float | None, expected: str) -> None:
    assert seconds(value) == expected


def test_empty_parts_are_left_out() -> None:
    assert lines(["a", "", "b"]) == "a\nb"
