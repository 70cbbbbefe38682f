from __future__ import annotations

import math
import random

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.keyword_learning import learn_keywords

TEXTS = [
    *(f"common heart disease number {n}" for n in ("one-a", "one-b")),
    *("common blood pressure", "common blood pressure measured", "common Istanbul", "Istanbul common ferry"),
    *("common docker image", "common docker images", "common rare", "common ferry boats", "common boat"),
]


def test_terms_of_some_texts_but_not_of_all() -> None:
    vocabulary = learn_keywords(TEXTS)
    expected = {"heart disease", "blood pressure", "Istanbul", "docker image", "ferry", "boat", "number"}
    assert set(vocabulary.keywords) == expected
    assert "common" not in vocabulary.keywords
    assert "rare" not in vocabulary.keywords


def test_weights_are_inverse_text_frequencies() -> None:
    vocabulary = learn_keywords(TEXTS)
    for keyword, weight in zip(vocabulary.keywords, vocabulary.weights, strict=True):
        assert weight == pytest.approx(math.log(1 + len(TEXTS) / 2)), keyword


def test_learnt_keywords_are_found_again() -> None:
    vocabulary = learn_keywords(TEXTS)
    found = vocabulary.of_questions(["Where do Docker images go?", "blood", "ferries in Istanbul"])
    assert [{vocabulary.keywords[i] for i in row} for row in found] == [{"docker image"}, set(), {"ferry", "Istanbul"}]


def test_the_order_of_texts_changes_nothing() -> None:
    expected, order = learn_keywords(TEXTS), list(TEXTS)
    for seed in range(5):
        random.Random(seed).shuffle(order)
        assert learn_keywords(order) == expected


def test_the_most_wanted_are_kept() -> None:
    texts = [*["alpha beta. gamma"] * 3, *["delta. gamma"] * 2, *["filler"] * 30]
    assert learn_keywords(texts, most=2, largest_share=0.5).keywords == ("gamma", "alpha beta")


def test_a_text_proposes_its_heaviest_terms_only() -> None:
    words = ["alpha", "bravo", "charlie", "delta", "foxtrot", "golf", "hotel", "india"]
    texts = [". ".join([*words, "juliet"])] * 2 + ["juliet. kilo", "juliet. kilo", *["filler"] * 40]
    # "juliet" is in four texts, so it weighs least in the first two and is proposed by the others alone.
    assert len(learn_keywords(texts[:2] + texts[4:]).keywords) == 8
    keywords = learn_keywords(texts).keywords
    assert set(keywords) == {*words, "juliet", "kilo"}
    assert keywords.index("juliet") > keywords.index("kilo")


def test_nothing_to_learn_from() -> None:
    assert learn_keywords([]).keywords == ()
    assert learn_keywords(["the of", "12"]).keywords == ()
    with pytest.raises(InputError, match="unknown language"):
        learn_keywords(["a"], "klingon")
