"""From documents and pairs to the files of an encoder's training: nothing leaks, nothing is half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.pair_preparation import (
    PreparationConfig,
    PreparedPairs,
    prepare_documents,
    prepare_pairs,
    write_prepared,
)
from jasper_rag.text.leakage import normalised, occurs_in
from jasper_rag.text.near_duplicates import near_duplicates
from jasper_rag.text.pair_files import TrainingExample, read_evaluation_set, read_examples

SPLIT = (0.7, 0.15, 0.15)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return (Path(__file__).parents[1] / "data/raw/all_docs.txt").read_text(encoding="utf-8").splitlines()


def require_no_leak(prepared: PreparedPairs) -> None:
    """The promises about splits, negatives and test queries, checked one by one."""
    assert prepared.test is not None
    corpus = prepared.test.corpus
    answers = {corpus[row] for rows in prepared.test.relevance for row in rows}
    train, val = ({example.positive for example in part} for part in (prepared.train, prepared.val))
    assert not train & val
    assert not (train | val) & answers
    for example in (*prepared.train, *prepared.val):
        assert example.negative not in answers | val
        assert example.negative != example.positive
        assert not near_duplicates(example.negative, example.positive) or not example.negative
        assert example.positive in corpus
    assert not any(occurs_in(query, text) for query in prepared.test.queries for text in corpus)
    queries = [[normalised(example.query) for example in part] for part in (prepared.train, prepared.val)]
    assert len({*queries[0]} | {*queries[1]} | {*map(normalised, prepared.test.queries)}) == sum(
        len(set(part)) for part in (*queries, prepared.test.queries)
    )


@pytest.mark.slow
@pytest.mark.parametrize("styles", [("mixed",), ("cloze",), ("keyword", "question")])
@pytest.mark.parametrize("negatives", ["bm25", "random"])
def test_nothing_leaks(documents: list[str], styles: tuple[str, ...], negatives: str) -> None:
    config = PreparationConfig(num_pairs=110, styles=styles, negatives=negatives, split=SPLIT, seed=5)
    prepared = prepare_documents(documents, config)
    require_no_leak(prepared)
    assert all(example.negative for example in (*prepared.train, *prepared.val))
    assert prepared.test is not None
    assert len(prepared.test.corpus) == 60  # all of them, answers or not
    assert prepare_documents(documents, config) == prepared
    report = prepared.report
    assert report["pairs"] == {
        "train": len(prepared.train),
        "val": len(prepared.val),
        "test": len(prepared.test.queries),
    }
    assert sum(report["documents_with_queries"].values()) <= report["documents_kept"] == 60


@pytest.mark.slow
def test_duplicates_go_before_the_split(documents: list[str]) -> None:
    again = [*documents, *(text.upper() for text in documents[:10]), f"{documents[20]} Indeed.", " "]
    prepared = prepare_documents(again, PreparationConfig(split=SPLIT))
    require_no_leak(prepared)
    assert prepared.report["documents_read"] == 72
    assert prepared.report["documents_kept"] == 60
    dropped = prepared.report["dropped"]
    assert (dropped["equal documents"], dropped["near-duplicate documents"], dropped["blank documents"]) == (10, 1, 1)


@pytest.mark.slow
def test_distractors_stand_in_the_tests_corpus_only(documents: list[str]) -> None:
    prepared = prepare_documents(documents[:40], PreparationConfig(split=SPLIT), distractors=documents[35:])
    require_no_leak(prepared)
    assert prepared.test is not None
    assert prepared.test.corpus[40:] == tuple(documents[40:])
    assert not {example.negative for example in prepared.train} & set(documents[40:])
    assert prepared.report["dropped"]["distractors that were near-duplicates"] == 5


@pytest.mark.slow
def test_generated_queries(documents: list[str]) -> None:
    prepared = prepare_documents(
        documents, PreparationConfig(split=SPLIT), generate=lambda text: f"what of {normalised(text).split()[-1]}zz?"
    )
    assert prepared.report["styles"]["generated"] > 50
    require_no_leak(prepared)


def test_no_negatives(documents: list[str]) -> None:
    prepared = prepare_documents(documents[:8], PreparationConfig(add_negatives=False))
    assert {example.negative for example in prepared.train} == {""}
    assert prepared.val == ()
    assert prepared.test is None
    assert prepared.report["negatives"] == {}


class FirstLetters:
    """Counts of letters, as unit rows."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        counts = np.array([[text.lower().count(letter) for letter in "etaoinshrd"] for text in texts], dtype=np.float32)
        unit: Vectors = counts / np.linalg.norm(counts + 1e-6, axis=1, keepdims=True)
        return unit


@pytest.mark.slow
def test_an_encoder_mines(documents: list[str]) -> None:
    config = PreparationConfig(split=SPLIT, negatives="encoder")
    require_no_leak(prepare_documents(documents, config, encoder=FirstLetters()))


def pairs() -> list[TrainingExample]:
    return [
        TrainingExample(
            f"question {n} about thing{n // 2}?", f"thing{n // 2} is what this text number{n // 2} tells of"
        )
        for n in range(40)
    ]


def test_given_pairs_are_split_by_their_positive() -> None:
    prepared = prepare_pairs(pairs(), PreparationConfig(split=SPLIT))
    require_no_leak(prepared)
    assert prepared.report["pairs"] == {"train": 28, "val": 6, "test": 6}
    assert prepared.report["styles"] == {"given": 40}
    assert prepared.report["pairs_read"] == 40


def test_one_query_with_several_positives() -> None:
    given = [*pairs(), TrainingExample("QUESTION 39 about thing19", "another text that answers it")]
    test = prepare_pairs(given, PreparationConfig(split=(0.4, 0.0, 0.6), shuffle=False)).test
    assert test is not None
    assert test.queries[0] == "question 16 about thing8?"
    assert dict(zip(test.queries, test.relevance, strict=True))["question 39 about thing19?"] == (19, 20)


def test_given_negatives_stay_where_they_may() -> None:
    given = pairs()
    texts = [example.positive for example in given]
    given[0] = TrainingExample(given[0].query, texts[0], "a text that answers nothing at all")
    given[1] = TrainingExample(given[1].query, texts[1], texts[1].upper())  # its own answer
    given[2] = TrainingExample(given[2].query, texts[2], texts[39])  # an answer of the test
    given += [given[5], TrainingExample(given[5].query, texts[5], "")]
    prepared = prepare_pairs(given, PreparationConfig(split=SPLIT, shuffle=False))
    require_no_leak(prepared)
    assert prepared.train[0].negative == "a text that answers nothing at all"
    assert prepared.train[1].negative not in ("", texts[1], texts[1].upper())
    assert prepared.train[2].negative not in ("", texts[39])
    assert prepared.report["negatives"]["given"] == 1
    assert prepared.report["negatives"]["given but replaced"] == 2
    assert prepared.report["dropped"]["pairs that stood before"] == 2
    assert len(prepare_pairs(given, PreparationConfig(num_pairs=5)).train) == 5


def test_test_queries_that_stand_in_a_text_are_dropped() -> None:
    given = [
        *pairs()[:-2],
        TrainingExample("what this text tells of number19", "here: What this text tells of, number19!"),
    ]
    prepared = prepare_pairs(given, PreparationConfig(split=SPLIT, shuffle=False))
    require_no_leak(prepared)
    assert prepared.report["dropped"]["test queries that stood word for word in the corpus"] == 1
    with pytest.raises(InputError, match="all 1 test queries"):
        prepare_pairs(given[-3:], PreparationConfig(split=(0.5, 0.0, 0.5), shuffle=False))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": (0.5, 0.2, 0.2)}, "the shares are 0.5 0.2 0.2"),
        ({"styles": ("poem",)}, "unknown style 'poem'"),
        ({"negatives": "hard"}, "unknown kind 'hard'"),
        ({"num_pairs": 0}, "0 pairs"),
    ],
)
def test_bad_settings(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PreparationConfig(**change)  # type: ignore[arg-type]


def test_bad_documents() -> None:
    with pytest.raises(InputError, match="no query could be made of 1 documents"):
        prepare_documents(["word"])
    with pytest.raises(InputError, match="there is no text"):
        prepare_documents([" "])


@pytest.mark.slow
def test_files(documents: list[str], tmp_path: Path) -> None:
    prepared = prepare_documents(documents, PreparationConfig(split=SPLIT))
    folder, elsewhere = tmp_path / "processed", tmp_path / "other" / "pairs.json"
    written = write_prepared(prepared, folder, elsewhere)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "other/pairs.json",
        "processed/val.json",
        "processed/test_eval.json",
        "processed/preparation_report.json",
    ]
    assert read_examples(elsewhere) == prepared.train
    assert read_examples(folder / "val.json") == prepared.val
    assert read_evaluation_set(folder / "test_eval.json") == prepared.test
    assert json.loads((folder / "preparation_report.json").read_text()) == prepared.report
    assert write_prepared(prepared, folder)[0] == folder / "train.json"
    with pytest.raises(InputError, match="another --output"):
        write_prepared(prepared, folder, folder / "val.json")


KILLED = """
import os, signal, sys
from jasper_rag import pair_preparation as preparation
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(preparation, sys.argv[1], die)
texts = open(sys.argv[2]).read().splitlines()[::-1]
config = preparation.PreparationConfig(split=(.7, .15, .15), seed=7)
preparation.write_prepared(preparation.prepare_documents(texts, config), sys.argv[3])
"""


@pytest.mark.slow
def test_killed_while_writing_the_old_files_stay(documents: list[str], tmp_path: Path, repository: Path) -> None:
    prepared = prepare_documents(documents, PreparationConfig(split=SPLIT))
    folder = tmp_path / "processed"
    before = {path.name: path.read_bytes() for path in write_prepared(prepared, folder)}
    source = repository / "data/raw/all_docs.txt"
    command = [sys.executable, "-c", KILLED, "write_evaluation_set", str(source), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    killed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert {name: (folder / name).read_bytes() for name in before} == before
    write_prepared(prepared, folder)  # and the next one puts what was left in order
    assert sorted(path.name for path in folder.iterdir()) == sorted(before)


@pytest.mark.slow
def test_the_prepared_files_beside_the_documents_are_these(
    documents: list[str], tmp_path: Path, repository: Path
) -> None:
    config = PreparationConfig(num_pairs=100, split=SPLIT, seed=42)
    for path in write_prepared(prepare_documents(documents, config), tmp_path):
        assert path.read_bytes() == (repository / "data/processed" / path.name).read_bytes(), path.name
