from __future__ import annotations

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.terms import Term, TermCorpus, read_terms


def runs(text: str, language: str = "english") -> list[list[str]]:
    """The words of one text as spelled, in runs of words that follow each other."""
    corpus = read_terms([text], language)
    found: list[list[str]] = [[]]
    for word in corpus.texts[0]:
        if word:
            found[-1].append(corpus.words[word])
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def term(corpus: TermCorpus, *stems: str) -> Term:
    return tuple(corpus.stems.index(stem) for stem in stems)


def test_runs_end_at_stop_words_numbers_and_marks() -> None:
    text = "High blood pressure of the heart, blood flow 120 times; 3rd arteries\nveins"
    assert runs(text) == [
        ["High", "blood", "pressure"],
        ["heart"],
        ["blood", "flow"],
        ["times"],
        ["arteries"],
        ["veins"],
    ]


def test_marks_inside_words_belong_to_them() -> None:
    assert runs("x-ray of Alzheimer\u2019s disease don't") == [["x-ray"], ["Alzheimer's", "disease"]]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("remove_tree", [["remove", "tree"]]),
        ("removeTree", [["remove", "Tree"]]),
        ("BaseRequestHandler", [["Base", "Request", "Handler"]]),
        ("_private_", [["private"]]),
        ("GitHub", [["GitHub"]]),
        ("miRNAs", [["miRNAs"]]),
        ("IL-1β-induced", [["IL-1β-induced"]]),
        ("parse_HTTPHeader", [["parse", "HTTPHeader"]]),
        ("__", []),
        ("a", []),
        ("a" * 31, []),
    ],
)
def test_names_of_programs_are_read_in_parts(name: str, parts: list[list[str]]) -> None:
    assert runs(name) == parts
    if len(parts) == 1 and len(parts[0]) > 1:
        # A name does not run on into its surroundings.
        assert runs(f"call {name} safely") == [["call"], *parts, ["safely"]]


def test_stems_join_spellings_and_the_usual_one_is_shown() -> None:
    corpus = read_terms(["The cell. Cells and cells", "Cells cells divide", "Cells! Istanbul"])
    cell, city = term(corpus, "cell"), term(corpus, "istanbul")
    # "Cells" 3, "cells" 3, "cell" 1: lower case as it is seen so often; a name keeps its capital.
    assert corpus.spellings([cell, city]) == {cell: "cells", city: "Istanbul"}


def test_pairs_are_spelled_as_pairs() -> None:
    corpus = read_terms(["Operating systems; an operating system; the operations", "operating system"])
    pair = term(corpus, "oper", "system")
    assert corpus.spellings([pair, (0, 0)]) == {pair: "operating system"}


def test_equally_frequent_spellings_the_shorter_then_the_alphabet() -> None:
    corpus = read_terms(["runs running", "jumped jumper jumpers"])
    run = term(corpus, "run")
    assert corpus.spellings([run]) == {run: "runs"}


def test_only_the_beginning_of_a_text_is_read() -> None:
    assert len(read_terms(["word " * 1000], most_characters=50).texts[0]) == 10


def test_other_languages_and_none() -> None:
    assert runs("Die Häuser und Türme", "german") == [["Häuser"], ["Türme"]]
    assert runs("the cells and Cells", "none") == [["the", "cells", "and", "Cells"]]
    corpus = read_terms(["the Cells cells"], "none")
    assert corpus.stems_of(0)[1] == corpus.stems_of(0)[2]
    assert len(corpus) == 1
    with pytest.raises(InputError, match="unknown language 'klingon'"):
        read_terms(["a"], "klingon")
