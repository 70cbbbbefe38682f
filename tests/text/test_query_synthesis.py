from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.query_synthesis import PseudoQuestions, as_keywords, pseudo_questions, sample_of
from jasper_rag.text.records import Document

CATS = Document("cats", "Cats purr when they are happy. They sleep most of the day. Nobody knows why. See 1 2 3 4 5 6.")
DOGS = Document("dogs", "Dogs bark when they are afraid. They sleep most of the day.", "Dogs", "pets")


def test_sentences_become_questions() -> None:
    found = pseudo_questions([CATS, DOGS])
    assert [(query.id, query.text) for query in found.queries] == [
        ("pseudo:cats#0", "Cats purr when they are happy."),
        ("pseudo:dogs#0", "Dogs bark when they are afraid."),
    ]
    assert found.qrels == {"pseudo:cats#0": {"cats": 1}, "pseudo:dogs#0": {"dogs": 1}}
    assert found.documents == [CATS, DOGS]
    assert (found.skipped, found.shared) == (0, 1)


@pytest.mark.slow
def test_the_choice_depends_on_seed_and_document_only() -> None:
    sentence = "Sentence number {} speaks of {} and more."
    documents = [Document(f"d{n}", " ".join(sentence.format(m, n) for m in range(9))) for n in range(30)]
    two = pseudo_questions(documents, seed=3)
    assert len(two.queries) == 60
    by_id = {query.id: query.text for query in two.queries}
    shuffled = pseudo_questions([*documents[::-1], Document("new", "Something else is said in this one.")], seed=3)
    assert by_id.items() <= {query.id: query.text for query in shuffled.queries}.items()
    one = pseudo_questions(documents, per_document=1, seed=3)
    assert {query.id: query.text for query in one.queries}.items() <= by_id.items()
    assert {query.text for query in pseudo_questions(documents, seed=4).queries} != set(by_id.values())


def test_documents_without_a_sentence_are_counted() -> None:
    documents = [
        Document("short", "Too short."),
        Document("numbers", "1 2 3 4 5 6 7 8. 9 9 9 9 9 9 9."),
        Document("one", "This document is one sentence long."),
        Document("empty", "", "Title"),
        Document("long", "word " * 61 + ". Short."),
        CATS,
    ]
    found = pseudo_questions(documents)
    assert found.skipped == 5
    assert set().union(*found.qrels.values()) == {"cats"}
    assert pseudo_questions([]).skipped == 0


def test_sentences_of_several_documents_are_left_out() -> None:
    again = Document("again", CATS.text.upper())
    found = pseudo_questions([CATS, again])
    assert (found.queries, found.skipped, found.shared) == ([], 2, 2)


def test_a_sentence_that_comes_twice_in_one_document_counts_once() -> None:
    found = pseudo_questions([Document("d", "It is said in the text. IT IS SAID in the text! Then it ends.")])
    assert [query.text for query in found.queries] == ["It is said in the text."]


def test_list_items_and_lines() -> None:
    found = pseudo_questions([Document("d", "- first wash the new pan\n- then dry it with a cloth\n")], seed=1)
    assert {query.text for query in found.queries} == {"first wash the new pan", "then dry it with a cloth"}
    endless = "words in a line without an end\nand more words in the next one\n" + "filler words\n" * 40
    assert {query.text for query in pseudo_questions([Document("d", endless)]).queries} == {
        "words in a line without an end",
        "and more words in the next one",
    }


CODE = "def area(circle, scale):\n    # The area of a circle in the plane.\n    return pi * circle.radius ** scale\n"


def test_code() -> None:
    found = pseudo_questions([Document("m.area", CODE)], per_document=9, min_words=4)
    assert {query.text for query in found.queries} == {
        "def area(circle, scale):",
        "The area of a circle in the plane.",
        "return pi * circle.radius ** scale",
    }


def test_chinese_needs_no_blanks() -> None:
    found = pseudo_questions([Document("d", "猫高兴的时候会发出声音。狗害怕的时候会叫。")])
    assert len(found.queries) == 2


def test_taken_out_of_the_document() -> None:
    found = pseudo_questions([CATS, DOGS], remove_from_document=True)
    assert [query.text for query in found.queries] == [
        "Cats purr when they are happy.",
        "Dogs bark when they are afraid.",
    ]
    assert found.documents == [
        Document("cats", "They sleep most of the day. Nobody knows why. See 1 2 3 4 5 6."),
        Document("dogs", "They sleep most of the day.", "Dogs", "pets"),
    ]


def test_all_of_its_places_and_whole_lines_are_taken_out() -> None:
    twice = Document("d", "It is said in the text. Then more. It is said in the text.")
    found = pseudo_questions([twice], remove_from_document=True)
    assert found.documents == [Document("d", "Then more. ")]
    code = pseudo_questions([Document("m", CODE)], per_document=1, min_words=7, remove_from_document=True)
    assert code.queries[0].text == "The area of a circle in the plane."
    assert code.documents[0].text == "def area(circle, scale):\n    return pi * circle.radius ** scale\n"


def test_a_document_keeps_some_words() -> None:
    two = Document("d", "The first of two sentences stands here. The second of two sentences stands here.", "Title")
    found = pseudo_questions([two], remove_from_document=True)
    assert len(found.queries) == 1
    assert found.queries[0].text not in found.documents[0].text
    only = Document("d", "The only sentence of this document.", "Title")
    kept = pseudo_questions([only], remove_from_document=True)
    assert (kept.queries, kept.skipped, kept.documents) == ([], 1, [only])


@pytest.mark.parametrize(
    "settings", [{"per_document": 0}, {"min_words": 0}, {"min_words": 9, "max_words": 8}], ids=lambda one: str(one)
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        pseudo_questions([CATS], **settings)


@given(st.text(alphabet=st.sampled_from("abc dE.!?\n`-#1 "), max_size=120))
def test_what_is_removed_is_gone_and_the_rest_stays(text: str) -> None:
    document = Document("d", text, "Title")
    found = pseudo_questions([document], min_words=1, remove_from_document=True)
    left = iter(text)
    assert all(character in left for character in found.documents[0].text)  # a subsequence
    assert len(found.queries) <= 2


def in_order(words: list[str], text: str) -> bool:
    left = iter(text.lower().replace(".", " ").split())
    return all(word in left for word in words)


def many(title: str = "") -> PseudoQuestions:
    line = "In case {0} the engineer{0} inspects a valve{0} and the pump{0} of every boiler{0} before winter{0} begins."
    return pseudo_questions([Document(f"d{n}", f"{line.format(n)} {line.format(n + 100)}", title) for n in range(60)])


def test_keywords_are_a_few_words_in_order() -> None:
    sentences = many()
    found = as_keywords(sentences, {"in", "the", "a", "and", "of", "before"}, seed=0)
    counts = set()
    for query, sentence in zip(found.queries, sentences.queries, strict=True):
        words = query.text.split()
        assert query.id == sentence.id
        assert in_order(words, sentence.text)
        assert not {"in", "the", "a", "and", "of", "before"} & set(words)
        counts.add(len(words))
    assert counts == {3, 4, 5, 6, 7, 8}
    assert (found.qrels, found.documents) == (sentences.qrels, sentences.documents)


@pytest.mark.slow
def test_every_second_question_begins_with_the_title() -> None:
    title = "Boiler Rooms of the Northern Line"
    found = as_keywords(many(title), (), seed=0)
    led = [query.text.split() for query in found.queries if query.id.endswith("#1")]
    assert len(led) == 60
    assert all(in_order(words[:4], title) for words in led)
    assert {len(words) for words in led} == {5, 6, 7, 8}
    first = [query.text for query in found.queries if query.id.endswith("#0")]
    untitled = as_keywords(many(), (), seed=0)
    assert first == [query.text for query in untitled.queries if query.id.endswith("#0")]
    # A short title stands whole.
    short = [query.text for query in as_keywords(many("The Line"), {"the"}, seed=0).queries if query.id.endswith("#1")]
    assert sum(text.startswith("the line ") for text in short) > 50
    assert all(text.startswith(("the line ", "In case ")) for text in short)  # the same words twice: left whole


def test_another_seed_keeps_other_words() -> None:
    sentences = many()
    one, again, other = (as_keywords(sentences, (), seed).queries for seed in (1, 1, 2))
    assert one == again != other


def test_a_sentence_stays_whole_where_its_words_do_not_do() -> None:
    few = pseudo_questions([CATS, DOGS])
    assert as_keywords(few, {"cats", "purr", "when", "they", "are", "dogs", "bark"}, seed=0) == few
    # Left with the same words, two sentences could not be told apart.
    common = {f"{word}{n}" for word in "ab" for n in range(60)}
    alike = pseudo_questions([Document(f"d{n}", f"Red blue green a{n}. Once more with b{n} in it.") for n in range(60)])
    texts = [query.text for query in as_keywords(alike, common, seed=0).queries]
    assert len(set(texts)) == len(texts)
    assert any(text.endswith(".") for text in texts)


def test_a_sample_takes_first_questions_first() -> None:
    found = many()
    assert sample_of(found, 120, seed=0) is found
    sample = sample_of(found, 80, seed=0)
    assert [query.id for query in sample.queries] == [query.id for query in found.queries if query.id in sample.qrels]
    assert sum(query.id.endswith("#0") for query in sample.queries) == 60
    assert len(sample.queries) == len(sample.qrels) == 80
    few = {query.id for query in sample_of(found, 20, seed=0).queries}
    assert few < {query.id for query in found.queries if query.id.endswith("#0")}
    assert few != {query.id for query in sample_of(found, 20, seed=1).queries}
