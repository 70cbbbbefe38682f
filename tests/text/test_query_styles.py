"""Queries of every style, none of them a piece of a document."""

from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import normalised, occurs_in
from jasper_rag.text.query_styles import STYLES, StyledQueries, chosen_styles, styled_queries
from jasper_rag.text.question_forms import question_of
from jasper_rag.text.words import stop_words

COMMON = stop_words("english", every=True)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return (Path(__file__).parents[2] / "data/raw/all_docs.txt").read_text(encoding="utf-8").splitlines()


def require_sound(made: StyledQueries) -> None:
    """What holds for any documents and settings."""
    for query in made.queries:
        assert not any(occurs_in(query.text, text) for text in made.texts), query
    assert len({normalised(query.text) for query in made.queries}) == len(made.queries)
    assert all(text.strip() for text in made.texts)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["mixed", "cloze", "keyword", "question"])
@pytest.mark.parametrize("most", [None, 7, 130])
def test_no_query_stands_in_a_document(documents: list[str], style: str, most: int | None) -> None:
    made = styled_queries(documents, most, [style], seed=3)
    require_sound(made)
    wanted = most or len(documents)
    assert wanted * 0.75 < len(made.queries) <= wanted or (style == "cloze" and most == 130)
    assert {query.style for query in made.queries} <= ({style} if style != "mixed" else set(STYLES))
    assert styled_queries(documents, most, [style], seed=3) == made
    assert styled_queries(documents, most, [style], seed=4).queries != made.queries


def test_a_cloze_query_is_taken_out_of_its_document(documents: list[str]) -> None:
    made = styled_queries(documents, styles=["cloze"])
    assert len(made.queries) > 55
    for query in made.queries:
        assert query.text in documents[query.row]
        assert query.text not in made.texts[query.row]
        assert len(made.texts[query.row]) + len(query.text) + 1 == len(documents[query.row])


def test_a_heading_is_a_query_and_leaves_the_document() -> None:
    texts = [
        "# Growing beans\n\nSow them in May, when the soil is warm. Water them in dry weeks.",
        "Storing apples\n==============\n\nKeep them cool and dark. Look for rot every week.",
        "Nothing here is a heading. It is all one paragraph, without a line break.",
        "A heading alone",
    ]
    made = styled_queries(texts, styles=["title"])
    assert [(query.row, query.text) for query in made.queries] == [(0, "Growing beans"), (1, "Storing apples")]
    assert made.texts[0].startswith("Sow them")
    assert made.texts[1].startswith("Keep them")
    assert made.texts[2:] == tuple(texts[2:])
    assert made.dropped == {"pairs that no style could make": 2}


def test_keywords_are_words_of_the_document(documents: list[str]) -> None:
    for query in styled_queries(documents, styles=["keyword"]).queries:
        words = query.text.split()
        assert 3 <= len(words) <= 8
        assert set(words) <= set(documents[query.row].lower().replace(",", " ").replace(".", " ").split())
        assert not set(words) & COMMON


def test_what_several_documents_answer_is_no_query() -> None:
    shared = "Copper is a metal."
    made = styled_queries([f"{shared} Miners dig the ore.", f"{shared} Coins hold some of it."], styles=["question"])
    assert all("copper" not in query.text or "?" not in query.text for query in made.queries)
    require_sound(made)


def test_generated_queries_come_first(documents: list[str]) -> None:
    asked: list[str] = []

    def generate(document: str) -> str:
        asked.append(document)
        return ["", f"question number {len(asked)}?", document.partition(".")[0]][len(asked) % 3]

    made = styled_queries(documents[:9], styles=["mixed"], generate=generate)
    require_sound(made)
    assert asked == documents[:9]
    assert sum(query.style == "generated" for query in made.queries) == 3
    assert made.dropped["empty answers of the generator"] == 3
    assert made.dropped["candidates that stood word for word in a document"] >= 3


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("Copper is a soft metal.", "What is copper?"),
        ("The oldest maps are the ones on clay.", "What are the oldest maps?"),
        ("Glass is made from sand.", "How is glass made?"),
        ("DNA was discovered in 1869.", "How was DNA discovered?"),
        ("Beavers can fell large trees.", "What can beavers fell?"),
        ("The old bridge crosses a river with its arches.", "How are old bridge and arches related?"),
        ("It is a metal.", ""),
        ("Copper is.", ""),
    ],
)
def test_statements_become_questions(sentence: str, question: str) -> None:
    assert question_of(sentence, sentence, COMMON, {}, 0) == question


def test_a_name_keeps_its_capital() -> None:
    context = "Gutenberg was a printer. It was there that Gutenberg cast his letters."
    assert question_of("Gutenberg was a printer.", context, COMMON, {}, 0) == "What was Gutenberg?"


def test_styles_by_name() -> None:
    assert chosen_styles(["mixed"]) == STYLES
    assert chosen_styles(["cloze, keyword", "cloze"]) == ("cloze", "keyword")
    for wrong in (["poem"], [], [" , "]):
        with pytest.raises(InputError, match="Styles are mixed, cloze"):
            chosen_styles(wrong)
    with pytest.raises(InputError, match="0 pairs"):
        styled_queries(["a b. c d."], 0)
    with pytest.raises(InputError, match="unknown language"):
        styled_queries(["a b. c d."], language="klingon")


@pytest.mark.parametrize("text", ["-", "?", "word", "a. b. c.", "# \n\n", "x = 1\ny = 2\n", "一二三。四五六。"])
def test_odd_documents(text: str) -> None:
    require_sound(styled_queries([text, "A plain text. It has two sentences of words."], 4, ["mixed"]))
