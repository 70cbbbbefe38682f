from __future__ import annotations

import numpy as np
import pytest
import torch

from jasper_rag.explain.known_pairs import KnownPairs

GENERATOR = np.random.default_rng(3)
BANK = GENERATOR.standard_normal((40, 6)).astype(np.float32) * 3
ASKED = GENERATOR.standard_normal((11, 6)).astype(np.float32) * 0.2


def test_the_nearest_are_those_of_brute_force() -> None:
    pairs = KnownPairs(BANK)
    cosines = (ASKED / np.linalg.norm(ASKED, axis=1, keepdims=True)) @ (
        BANK / np.linalg.norm(BANK, axis=1, keepdims=True)
    ).T
    expected = np.argsort(-cosines, axis=1)[:, :4]
    rows, found = pairs.nearest(ASKED, 4)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(found, np.take_along_axis(cosines, expected, axis=1), atol=1e-6)
    assert (found.dtype.name, rows.dtype.name) == ("float32", "int64")


def test_one_question_finds_what_it_finds_among_others() -> None:
    pairs = KnownPairs(BANK)
    rows, cosines = pairs.nearest(ASKED, 5)
    for place in range(len(ASKED)):
        single, alike = pairs.nearest(ASKED[place : place + 1], 5)
        assert single.tolist() == rows[place : place + 1].tolist()
        np.testing.assert_allclose(alike, cosines[place : place + 1], atol=1e-6)


def test_rows_are_scaled_once_and_unit_rows_stay_where_they_are() -> None:
    pairs = KnownPairs(BANK.astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(pairs.questions, axis=1), 1, atol=1e-6)
    assert pairs.questions.dtype == np.float32
    assert KnownPairs(pairs.questions).questions is pairs.questions
    assert (len(pairs), pairs.dimension) == (40, 6)
    assert KnownPairs(np.zeros((2, 3), dtype=np.float32)).questions.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_more_than_all_are_all() -> None:
    rows, cosines = KnownPairs(BANK[:3]).nearest(ASKED, 9)
    assert rows.shape == cosines.shape == (11, 3)


def test_pairs_are_described_in_plain_values() -> None:
    axes = np.eye(2, dtype=np.float32)
    known = KnownPairs(axes, ["up?", "right?"], ["q7", "q8"], ["s1", "s2"], ["Up", "Right"], np.array([5, 6]))
    assert known.described(*known.nearest(np.array([[0.6, 0.8]], dtype=np.float32), 1)) == [
        [
            {
                "similarity": 0.8,
                "index": 1,
                "question": "right?",
                "question_id": "q8",
                "source": "Right",
                "source_id": "s2",
            }
        ]
    ]
    bare = KnownPairs(axes)
    assert bare.described(*bare.nearest(axes[:1], 1))[0][0] == {
        "similarity": 1.0,
        "index": 0,
        "question": "",
        "question_id": "0",
        "source": "",
        "source_id": "0",
    }


def test_pairs_of_tensors_are_their_questions() -> None:
    triples = [(torch.from_numpy(row), torch.zeros(6), torch.ones(6)) for row in BANK]
    np.testing.assert_array_equal(KnownPairs.of_tensors(triples).questions, KnownPairs(BANK).questions)
    single = KnownPairs.of_tensors([(torch.ones(1, 6), torch.zeros(1, 6), torch.ones(1, 6))])
    assert single.questions.shape == (1, 6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 question_texts for 40"):
        KnownPairs(BANK, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"1 source_ids for 40"):
        KnownPairs(BANK, source_ids=["a"])
    with pytest.raises(ValueError, match=r"sources \[2\] for 40"):
        KnownPairs(BANK, sources=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"got \[0, 6\]"):
        KnownPairs(BANK[:0])
    with pytest.raises(ValueError, match=r"got \[6\]"):
        KnownPairs(BANK[0])
    broken = BANK.copy()
    broken[7, 2] = np.nan
    with pytest.raises(ValueError, match="known question 7 is not finite"):
        KnownPairs(broken)
    with pytest.raises(ValueError, match=r"one width, got \[2, 3\]"):
        KnownPairs.of_tensors([(torch.ones(width),) * 3 for width in (2, 3)])
    with pytest.raises(ValueError, match="must share D"):
        KnownPairs(BANK).nearest(ASKED[:, :5], 2)
