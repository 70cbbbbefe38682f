from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
import Stemmer

from jasper_rag.errors import InputError
from jasper_rag.retrieval.lexical import LexicalIndex

TEXTS = [
    "Cats purr and cats sleep.",
    "A dog barks at the cat",
    "the of and",
    "Birds sing in the morning; dogs are sleeping",
    "Übergrößen für Vögel, 猫が好き",
]
QUERIES = ["sleeping cats", "dogs dogs", "the and of", "", "unknown words only", "Vögel 猫が好き"]


@pytest.fixture
def index() -> LexicalIndex:
    return LexicalIndex.build(TEXTS)


def test_scores_are_those_of_bm25s(index: LexicalIndex) -> None:
    words = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "show_progress": False}
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index(bm25s.tokenize(TEXTS, **words), show_progress=False)
    for query in QUERIES:
        [stems] = bm25s.tokenize([query], return_ids=False, **words)
        expected = reference.get_scores(stems) if stems else np.zeros(len(TEXTS))
        np.testing.assert_allclose(index.scores([query])[0], expected, rtol=1e-6)


def test_scores_follow_the_formula() -> None:
    index = LexicalIndex.build(["aa aa bb", "bb", "cc cc"], language="none", k1=1.2, b=0.5)
    inverse_frequency = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [inverse_frequency / (1 + 1.2 * (0.5 + 0.5 * length / 2)) for length in (3, 1)]
    assert index.scores(["bb"])[0] == pytest.approx([*expected, 0.0])
    assert index.scores(["bb bb zz"])[0] == pytest.approx([2 * value for value in (*expected, 0.0)])
    assert index.language == "none"


def test_queries_without_a_known_word_score_zero(index: LexicalIndex) -> None:
    scores = index.scores(QUERIES)
    assert scores.shape == (6, 5)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    assert not scores[2:5].any()


def test_search_returns_only_documents_that_share_a_word(index: LexicalIndex) -> None:
    scores, rows = index.search(QUERIES, 3)
    assert rows.tolist() == [[0, 1, 3], [1, 3, -1], [-1] * 3, [-1] * 3, [-1] * 3, [4, -1, -1]]
    np.testing.assert_array_equal(scores[rows == -1], -np.inf)
    np.testing.assert_array_equal(scores[0], index.scores(QUERIES[:1])[0, rows[0]])


def test_search_in_blocks_is_search_of_all(index: LexicalIndex) -> None:
    rows = index.search(QUERIES * 30, 4)[1]
    np.testing.assert_array_equal(rows, np.tile(index.search(QUERIES, 4)[1], (30, 1)))
    assert index.search([], 4)[1].shape == (0, 4)
    assert index.search(QUERIES, 99)[1].shape == (6, 5)


def test_a_corpus_without_words_scores_zero() -> None:
    index = LexicalIndex.build(["", "the"])
    assert index.scores(["cat"]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("language", ["english", "none"])
def test_loaded_index_scores_identically(language: str, tmp_path: Path) -> None:
    built = LexicalIndex.build(TEXTS, language=language, k1=1.1, b=0.3)
    built.save(tmp_path / "index")
    loaded = LexicalIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(loaded.scores(QUERIES), built.scores(QUERIES))
    assert (len(loaded), loaded.language, loaded.k1, loaded.b) == (len(TEXTS), language, 1.1, 0.3)


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        LexicalIndex.build(TEXTS).save(tmp_path / name)
    for file in ("postings.safetensors", "lexical.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_nothing_is_printed(index: LexicalIndex, capfd: pytest.CaptureFixture[str]) -> None:
    LexicalIndex.build(TEXTS).search(QUERIES, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "0 documents"),
        ({"texts": ["cat"], "language": "xx"}, "unknown language 'xx'"),
        ({"texts": ["cat"], "k1": -1.0}, "k1 = -1.0"),
        ({"texts": ["cat"], "b": 1.5}, "b = 1.5"),
        ({"texts": ["cat"], "b": math.nan}, "b = nan"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LexicalIndex.build(**arguments)


def _edit(**changes: Any) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "lexical.json"
        description = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in description.items() if value is not None}))

    return edit


def _damage_postings(directory: Path) -> None:
    path = directory / "postings.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def _replace_postings(directory: Path) -> None:
    import hashlib

    (directory / "postings.safetensors").write_bytes(b"nothing")
    _edit(postings_sha256=hashlib.sha256(b"nothing").hexdigest())(directory)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: (directory / "lexical.json").unlink(), "no BM25 index"),
        (lambda directory: (directory / "lexical.json").write_text("{"), "not the description"),
        (lambda directory: (directory / "lexical.json").write_text("[]"), "not the description"),
        (_edit(format_version=9), "format version 9, but this program reads 1"),
        (_edit(vocabulary=None), "without vocabulary"),
        (lambda directory: (directory / "postings.safetensors").unlink(), "cannot be read"),
        (_damage_postings, "sha256 differs"),
        (_replace_postings, "not a safetensors file"),
    ],
)
def test_damaged_files_are_refused(
    index: LexicalIndex, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    index.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        LexicalIndex.load(tmp_path)
