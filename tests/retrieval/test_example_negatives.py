"""Hard negatives: ranked high, allowed, no answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.retrieval.example_negatives import MARGIN, mine_negatives
from jasper_rag.retrieval.lexical import LexicalIndex

DOCUMENTS = [
    "copper wire carries current through the whole house",
    "copper wire carries current through the whole house today",  # a near-duplicate of the first
    "copper roofs turn green in the rain",
    "rain fills the barrel behind the shed",
    "bread rises overnight in a bowl",
    "copper wire was rolled for telegraph lines",
]


def test_the_best_match_that_is_no_answer() -> None:
    found = mine_negatives(["copper wire current"], [{0}], DOCUMENTS, [True] * 6)
    assert found.rows == (5,)  # not 1, which scores as the answer does
    assert found.how == {"mined": 1}
    scores = LexicalIndex.build(DOCUMENTS).scores(["copper wire current"])[0]
    assert scores[5] <= MARGIN * scores[0]
    assert scores[5] == max(scores[row] for row in (2, 3, 4, 5))


def test_only_what_is_allowed() -> None:
    allowed = [True, True, True, True, True, False]
    assert mine_negatives(["copper wire current"], [{0}], DOCUMENTS, allowed).rows == (2,)
    assert mine_negatives(["copper wire current"], [{0}], DOCUMENTS, [True, True] + [False] * 4).rows == (-1,)
    assert mine_negatives(["copper"], [{0}], DOCUMENTS, [False] * 6).how == {"none": 1}


def test_all_answers_count() -> None:
    assert mine_negatives(["copper wire current"], [{0, 5}], DOCUMENTS, [True] * 6).rows == (2,)


def test_a_cloze_query_skips_the_first_three() -> None:
    texts = ["nothing of it", *(f"green moss number{place} grows" + " here" * place for place in range(6))]
    found = mine_negatives(["green moss"], [{0}], texts, [True] * 7)
    assert found.how == {"skipped": 1}
    assert found.rows == (4,)


def test_a_query_without_a_match_takes_one_like_the_answer() -> None:
    found = mine_negatives(["zebra"], [{3}], DOCUMENTS, [True] * 6)
    assert (found.rows, found.how) == ((2,), {"like the positive": 1})


def test_function_words_decide_nothing() -> None:
    texts = ["copper is soft", "what should one know about it", "copper roofs"]
    assert mine_negatives(["What should one know about copper?"], [{0}], texts, [True] * 3).rows[0] != 1


def test_random_ones_are_the_same_for_the_same_seed() -> None:
    queries, answers = [f"query {number}" for number in range(20)], [{0}] * 20
    found = mine_negatives(queries, answers, DOCUMENTS, [True] * 6, "random", seed=1)
    assert found == mine_negatives(queries, answers, DOCUMENTS, [True] * 6, "random", seed=1)
    assert found != mine_negatives(queries, answers, DOCUMENTS, [True] * 6, "random", seed=2)
    assert set(found.rows) <= {2, 3, 4, 5}
    assert found.how == {"random": 20}


def test_many_candidates() -> None:
    texts = [f"moss {'green ' * (place % 7)} stone{place}" for place in range(200)]
    found = mine_negatives(["green moss"], [{6}], texts, [True] * 200)
    scores = LexicalIndex.build(texts).scores(["green moss"])[0]
    eligible = [row for row in range(200) if 0 < scores[row] <= MARGIN * scores[6]]
    assert found.rows[0] == min(eligible, key=lambda row: (-scores[row], row))


class Angles:
    """Text "number" -> a vector at that many degrees."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_an_encoder_ranks() -> None:
    found = mine_negatives(["0"], [{0}], ["10", "5", "40", "25"], [True] * 4, "encoder", encoder=Angles())
    assert found.rows == (3,)  # cos 25 < .95 cos 10; 5 is nearer than the answer


def test_no_such_kind() -> None:
    for kind in ("best", "encoder"):
        with pytest.raises(ValueError, match=f"kind is '{kind}'"):
            mine_negatives(["0"], [{0}], ["0"], [True], kind)
