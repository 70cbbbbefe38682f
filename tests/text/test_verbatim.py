"""Phrases found word for word, against looking for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.text.leakage import occurs_in
from jasper_rag.text.verbatim import PhraseFinder

WORDS = st.lists(st.sampled_from(["a", "b", "B,", "c."]), min_size=1, max_size=7).map(" ".join)


@pytest.mark.slow
@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=5))
def test_as_looking_for_each(phrases: list[str], texts: list[str]) -> None:
    finder = PhraseFinder(phrases)
    for text in texts:
        assert finder.found_in(text) == {row for row, phrase in enumerate(phrases) if occurs_in(phrase, text)}
    expected = {row for row, phrase in enumerate(phrases) if any(occurs_in(phrase, text) for text in texts)}
    assert finder.found_in_any(texts) == expected


def test_whole_words_in_any_case() -> None:
    finder = PhraseFinder(["The cat", "at", "", "cat sat on the mat today"])
    assert finder.found_in("See: THE CAT, sat on the mat -- today!") == {0, 3}
