from __future__ import annotations

import pytest
import Stemmer

from jasper_rag.errors import InputError
from jasper_rag.text.words import LANGUAGES, WordAnalyser, stop_words


def test_english_words_are_lowered_stopped_and_stemmed() -> None:
    assert list(WordAnalyser.of("english").stems(["The Runners are RUNNING, a b 42", "the"])) == [
        ["runner", "run", "42"],
        [],
    ]


def test_other_languages_use_their_own_rules() -> None:
    assert list(WordAnalyser.of("german").stems(["Die Häuser und das Haus"])) == [["haus", "haus"]]


def test_none_keeps_words_as_they_are() -> None:
    assert list(WordAnalyser.of("none").stems(["The Runners"])) == [["the", "runners"]]


def test_every_language_has_a_stemmer() -> None:
    assert set(LANGUAGES) - {"none"} <= set(Stemmer.algorithms())


def test_unknown_language_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'klingon'[\s\S]*danish, dutch, english"):
        WordAnalyser.of("klingon")


def test_names_of_programs_count_whole_and_in_parts() -> None:
    analyser = WordAnalyser.of("none")
    (found,) = analyser.stems(["_remove_tree parseHTTPHeader UTF8 x_y __"])
    assert found == [
        *("remove_tree", "remove", "tree"),
        *("parsehttpheader", "parse", "http", "header"),
        "utf8",
        "x_y",
    ]


def test_every_language_has_stop_words() -> None:
    assert all(stop_words(language) for language in LANGUAGES if language != "none")
    assert not stop_words("none")


def test_every_function_word_of_english() -> None:
    assert stop_words("english") < {*stop_words("english", every=True), "into", "no", "not", "such", "then", "will"}
    assert "how" in stop_words("english", every=True) - stop_words("english")
    assert stop_words("german", every=True) == stop_words("german")
