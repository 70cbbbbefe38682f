from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.original_csv import ScoredPair, pairs_as_set, read_scored_pairs


def write(directory: Path, text: str, name: str = "pairs.csv") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_usual_columns(tmp_path: Path) -> None:
    text = "question,source,answer,keywords,relevance_score\nq one,s one,yes,git; svn,0.5\nq two,s one,,,\n"
    assert read_scored_pairs(write(tmp_path, text)) == (
        ScoredPair("q one", "s one", 0.5, ("git", "svn"), "yes"),
        ScoredPair("q two", "s one", 1.0),
    )


@pytest.mark.parametrize("question", ["question", "question_text", "query"])
@pytest.mark.parametrize("source", ["source_text", "source", "context", "passage"])
def test_other_names_of_columns(tmp_path: Path, question: str, source: str) -> None:
    text = f"response,label,{source},topics,{question}\na,0,s,\"['x']\",q\n".replace("['x']", '[""x""]')
    assert read_scored_pairs([write(tmp_path, text)]) == (ScoredPair("q", "s", 0.0, ("x",), "a"),)


def test_own_names_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "Frage,Text,source\nq,s,x\n")
    pairs = read_scored_pairs(path, {"question": "Frage", "source": "Text"})
    assert pairs == (ScoredPair("q", "s", 1.0),)


def test_equal_pairs_are_merged_over_files(tmp_path: Path) -> None:
    one = write(tmp_path, "question,source,answer,tags,score\nq,s,long answer,B;a,0.2\nr,s,,,\n", "one.csv")
    other = write(tmp_path, "question\tsource\tanswer\ttags\tscore\n q \ts\tshort\tA;c\t0.7\n", "two.tsv")
    assert read_scored_pairs([one, str(other)])[0] == ScoredPair("q", "s", 0.7, ("B", "a", "c"), "long answer")


def test_scores_are_cut_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "question,source,score\na,s,3\nb,s,-1\nc,s,nan\n")
    with caplog.at_level(logging.WARNING):
        assert [pair.relevance for pair in read_scored_pairs(path)] == [1.0, 0.0, 1.0]
    assert "2 scores outside 0 and 1" in caplog.text


def test_splits_by_file(tmp_path: Path) -> None:
    train = write(tmp_path, "question,source\na,s\n", "train.csv")
    val = write(tmp_path, "question,source\nb,s\nb,t\n", "val.csv")
    assert [p.split for p in read_scored_pairs({"train": [train], "val": [val]})] == ["train", "dev", "dev"]
    overlapping = write(tmp_path, "question,source\nb,t\na,u\n", "test.csv")
    with pytest.raises(
        InputError, match=r"test\.csv:3 \[question\]: this question is in split 'test' here and in 'train'"
    ):
        read_scored_pairs({"train": [train], "test": [overlapping]})


def test_pairs_become_a_retrieval_set() -> None:
    pairs = [
        ScoredPair("a", "s", 0.3, split="train"),
        ScoredPair("a", "t", 0.0, split="train"),
        ScoredPair("b", "t", 1.0, split="dev"),
    ]
    found = pairs_as_set(pairs, "name")
    assert [(d.id, d.text) for d in found.documents] == [("s0", "s"), ("s1", "t")]
    assert [(q.id, q.text) for q in found.queries] == [("q0", "a"), ("q1", "b")]
    assert found.qrels == {"train": {"q0": {"s0": 1, "s1": 0}}, "dev": {"q1": {"s1": 1}}}
    assert found.name == "name"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("frage,source\na,b\n", r"no column holds the question; the file has 'frage', 'source'"),
        ("question,text\na,b\n", "no column holds the source"),
        ("question,source,score\na,b,high\n", r":2 \[score\]: the score 'high'"),
        ("question,source,score\na,b,inf\n", r":2 \[score\]: the score 'inf'"),
        ("question,source\n,b\n", r":2 \[question\]: the text is empty"),
        ("question,source\n", "a header and no row"),
    ],
)
def test_faults_name_the_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_scored_pairs(write(tmp_path, text))


def test_bad_columns_and_no_file(tmp_path: Path) -> None:
    path = write(tmp_path, "question,source\na,b\n")
    with pytest.raises(InputError, match="unknown field 'text'"):
        read_scored_pairs(path, {"text": "source"})
    with pytest.raises(InputError, match=r"no column 'Source'\.[\s\S]*'question', 'source'"):
        read_scored_pairs(path, {"source": "Source"})
    with pytest.raises(InputError, match="no file was given"):
        read_scored_pairs([])
