from __future__ import annotations

import math

import pytest

from jasper_rag.text.keywords import KeywordVocabulary

VOCABULARY = KeywordVocabulary(
    ("blood pressure", "pressure", "heart", "quality of life", "DNA", "2024"), (2.0, 1.0, 1.5, 3.0, 2.5, 1.0)
)


def shown(found: tuple[tuple[int, ...], ...]) -> list[list[str]]:
    return [[VOCABULARY.keywords[keyword] for keyword in row] for row in found]


def test_question_keywords_come_by_weight() -> None:
    assert shown(VOCABULARY.of_questions(["Is high Blood Pressure bad for hearts?", "what?"])) == [
        ["blood pressure", "heart"],
        [],
    ]


def test_the_longest_keyword_is_meant() -> None:
    (found,) = VOCABULARY.find(["blood pressure, then pressure, pressures"])
    assert found == pytest.approx({0: 2.0, 1: math.sqrt(2)})


def test_keywords_may_hold_stop_words_but_not_be_one() -> None:
    assert shown(VOCABULARY.of_questions(["the quality of your life in 2024"])) == [["quality of life"]]


def test_a_keyword_may_end_or_begin_in_a_stop_word() -> None:
    vocabulary = KeywordVocabulary(("cells of 42", "the shell", "The Who"), (1.0, 1.0, 1.0))
    assert vocabulary.of_questions(["a cell in shells"]) == ((0, 1),)


def test_pairs_add_scaled_weights_of_both_sides() -> None:
    questions, sources = ["heart pressure", "nothing"], ["the heart, the heart, DNA", "DNA"]
    found = VOCABULARY.of_pairs(questions, sources, [(0, 0), (1, 1), (0, 1)])
    asked = {"heart": 1.5 / math.hypot(1.5, 1), "pressure": 1 / math.hypot(1.5, 1)}
    length = math.hypot(1.5 * math.sqrt(2), 2.5)
    answering = {"heart": 1.5 * math.sqrt(2) / length, "DNA": 2.5 / length}
    total = {word: asked.get(word, 0) + answering.get(word, 0) for word in {*asked, *answering}}
    assert shown(found) == [sorted(total, key=lambda word: -total[word]), ["DNA"], ["DNA", "heart", "pressure"]]


def test_only_so_many_are_given() -> None:
    text = "blood pressure heart DNA"
    assert shown(VOCABULARY.of_questions([text], most=2)) == [["DNA", "blood pressure"]]
    assert shown(VOCABULARY.of_pairs([text], [text], [(0, 0)], most=1)) == [["DNA"]]


def test_a_question_is_read_without_its_source() -> None:
    questions, sources = ["heart"], ["DNA"]
    assert shown(VOCABULARY.of_questions(questions)) == [["heart"]]
    assert "DNA" in shown(VOCABULARY.of_pairs(questions, sources, [(0, 0)]))[0]


def test_of_two_keywords_with_one_stem_the_first_is_found() -> None:
    vocabulary = KeywordVocabulary(("gene", "genes"), (1.0, 1.0))
    assert vocabulary.of_questions(["genes"]) == ((0,),)


def test_given_lists_make_a_vocabulary() -> None:
    lists = [["DNA", "cell  wall"], ["dna"], ["DNA", "Cell wall", " "], []]
    vocabulary = KeywordVocabulary.of_lists(lists)
    assert vocabulary.keywords == ("Cell wall", "DNA")
    assert vocabulary.weights == pytest.approx((math.log(1 + 4 / 2), math.log(1 + 4 / 3)))
    assert vocabulary.ids_of([*lists, ["unknown", "dna", "DNA"]]) == ((1, 0), (1,), (1, 0), (), (1,))
    assert len(vocabulary) == 2


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 keywords but 0 weights"):
        KeywordVocabulary(("a",), ())
