from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.text.leakage import leak_report, normalised, occurs_in, text_key
from jasper_rag.text.records import Document, Query, RetrievalSet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Who's\tTHERE?! ", "who s there"),
        ("STRASSE Straße", "strasse strasse"),
        ("\uff46\uff55ll\u00a0width", "full width"),
        ("c++ < 5 €", "c++ < 5 €"),
        ("?!", "?!"),
        ("क्या कि", "क्या कि"),
        (" ", ""),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


@given(st.text(max_size=30))
def test_normalised_is_blind_to_case_blanks_and_punctuation(text: str) -> None:
    once = normalised(text)
    assert once == " ".join(once.split())
    assert bool(once) == bool(normalised(text + " "))
    if any(character.isalnum() for character in text):
        assert normalised(f" {text}!?\n") == once


def test_occurs_in_counts_whole_words() -> None:
    assert occurs_in("Red fox.", "the (red) FOX runs")
    assert not occurs_in("red fox", "the red foxes")


def test_blank_texts_are_not_equal_texts() -> None:
    assert text_key("Same text.", "a") == text_key(" same TEXT", "b") == "same text"
    blank = [text_key(text, identifier) for text, identifier in (("", "a"), (" \n", "b"), ("", "c"))]
    assert len({*blank, *map(normalised, ("a", "b", "c"))}) == 6
    assert text_key("", "a") == text_key("\t", "a")


def test_a_set_without_texts_does_not_leak() -> None:
    rows = range(6)
    qrels = {
        split: {f"q{row}": {f"d{row}": 1} for row in rows[at : at + 2]}
        for at, split in ((0, "train"), (2, "dev"), (4, "test"))
    }
    documents = tuple(Document(f"d{row}", "") for row in rows)
    queries = tuple(Query(f"q{row}", " ") for row in rows)
    report = leak_report(RetrievalSet("vectors", documents, queries, qrels))
    assert report.clean
    assert (report.equal_queries.total, report.shared_sources.total) == (6, 6)


def test_report_counts_every_kind() -> None:
    documents = (
        Document("a", "so the red fox runs away, they say"),
        Document("b", "Same text."),
        Document("c", "same text"),
        Document("d", "other"),
    )
    queries = (
        Query("1", "The red fox runs"),
        Query("2", "the red fox runs!"),
        Query("3", "x"),
        Query("4", "the red"),
        Query("5", "y"),
    )
    qrels = {
        "train": {"1": {"a": 1, "b": 1}, "4": {"a": 1}},
        "test": {"2": {"d": 1, "a": 0}, "3": {"c": 2}},
        "dev": {"5": {"d": 0}},
    }
    report = leak_report(RetrievalSet("pets", documents, queries, qrels))
    assert (report.equal_queries.count, report.equal_queries.total) == (1, 4)
    assert report.equal_queries.examples == ("'1' in train, '2' in test",)
    assert (report.shared_sources.count, report.shared_sources.total) == (1, 3)
    assert report.shared_sources.examples == ("'b' in train, 'c' in test",)
    assert (report.verbatim_queries.count, report.verbatim_queries.total) == (1, 5)
    assert report.verbatim_queries.examples == ("query '1' in document 'a'",)
    assert not report.clean
    lines = list(report.lines())
    assert lines[0] == "Leaks in pets (train, test, dev):"
    assert "  sources shared by splits: 1 of 3" in lines
    assert len(lines) == 7


def test_at_most_three_examples() -> None:
    queries = tuple(Query(f"{split}{n}", f"question {n}") for split in "ab" for n in range(5))
    documents = tuple(Document(query.id, f"text {query.id}") for query in queries)
    qrels = {split: {f"{split}{n}": {f"{split}{n}": 1} for n in range(5)} for split in "ab"}
    report = leak_report(RetrievalSet("s", documents, queries, qrels))
    assert (report.equal_queries.count, len(report.equal_queries.examples)) == (5, 3)
    assert report.shared_sources.count == 0


def test_nothing_leaks_from_a_set_without_judgements() -> None:
    report = leak_report(RetrievalSet("s", (Document("a", "x"),), ()))
    assert report.clean
    assert next(report.lines()) == "Leaks in s (no split):"
