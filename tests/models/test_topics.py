from __future__ import annotations

import numpy as np
import pytest
import torch

from jasper_rag.data.steering import along_the_line
from jasper_rag.errors import InputError
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import Topics, answer_topics, steering_to_topics, steering_towards

NAMES = ("Git, commit", "git bisect", "Tar, archive", "Ärger")


@pytest.fixture
def topics() -> Topics:
    terms = (("Git", "commit"), ("bisect",), ("archive", "Zip"), ())
    return Topics(NAMES, terms, np.eye(4, 5, dtype=np.float32), np.array([0, 1, 2, 2, 3, 2]))


def random_unit(rows: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((rows, 5)).astype(np.float32))


def test_steering_is_that_of_the_training_batches() -> None:
    questions, centroids = random_unit(6), random_unit(6, 1)
    centroids[3] = questions[3]
    ones = torch.ones(6, 1)
    reference = along_the_line(torch.tensor(questions), torch.tensor(centroids), ones, torch.zeros(6, 1))
    steering = steering_towards(questions, centroids)
    np.testing.assert_allclose(steering, reference.numpy(), atol=1e-6)
    assert steering.dtype == np.float32
    assert not steering[3].any()
    np.testing.assert_array_equal(steering_towards(questions, centroids[0])[:1], steering[:1])


def test_no_topic_is_no_steering(topics: Topics) -> None:
    questions = random_unit(3)
    steering = steering_to_topics(questions, np.array([2, -1, 0]), topics.centroids)
    np.testing.assert_array_equal(steering[[0]], steering_towards(questions[[0]], topics.centroids[2]))
    assert not steering[1].any()


@pytest.mark.parametrize(
    ("asked", "row"),
    [
        ("Git, commit", 0),
        ("git, COMMIT ", 0),
        ("git b", 1),
        ("TAR", 2),
        ("ärg", 3),
        ("#1", 0),
        ("#4", 3),
    ],
)
def test_a_topic_is_found(topics: Topics, asked: str, row: int) -> None:
    assert topics.find(asked) == row


@pytest.mark.parametrize(
    ("asked", "problem", "remedy"),
    [
        ("git", "2 topics begin with 'git'", "#1 'Git, commit', #2 'git bisect'"),
        ("commit", "no topic 'commit'", "nearest are #1 'Git, commit'"),
        ("zip", "no topic 'zip'", "nearest are #3 'Tar, archive'"),
        ("bisekt", "no topic 'bisekt'", "#2 'git bisect'"),
        ("qqqq", "no topic 'qqqq'", "nearest are #3 'Tar, archive', #1 'Git, commit', #2 'git bisect'"),
        ("", "no topic ''", "#3 'Tar, archive'"),
        ("#0", "no topic '#0'", "#1 to #4"),
        ("#5", "no topic '#5'", "#1 to #4"),
        ("#²", "no topic '#²'", "#1 to #4"),
        ("#", "no topic '#'", "such as #1 for 'Git, commit'"),
    ],
)
def test_an_unknown_topic_names_the_nearest(topics: Topics, asked: str, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        topics.find(asked)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert caught.value.field == "steer"


def test_documents_come_and_go(topics: Topics) -> None:
    more = topics.followed_by(np.array([[0, 0, 0, 2, 9], [0, 1, 1, 0, 0]], dtype=np.float32))
    assert more.assignment.tolist() == [0, 1, 2, 2, 3, 2, 3, 1]  # ties to the smaller number
    fewer = more.select(np.array([6, 0, 2]))
    assert fewer.assignment.tolist() == [3, 0, 2]
    assert fewer.sizes.tolist() == [1, 0, 1, 1]
    assert fewer.names == NAMES


def test_the_topic_of_an_answer_is_that_of_the_best_one(topics: Topics) -> None:
    qrels = {
        "graded": {"d0": 1, "d2": 3, "d4": 2},
        "equal": {"d4": 1, "d1": 1},
        "outside": {"gone": 3, "d1": 1},
        "nowhere": {"gone": 1},
        "none": {"d0": 0},
    }
    judgements = Judgements.from_qrels(qrels, list(qrels), {f"d{row}": row for row in range(6)})
    first_of_equals = topics.assignment[judgements.documents[judgements.indptr[1]]]
    assert answer_topics(judgements, topics.assignment).tolist() == [2, first_of_equals, 1, -1, -1]


def test_parts_must_fit() -> None:
    centroids = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match=r"\(1, 1, 2\)"):
        Topics(("a",), ((),), centroids, np.array([0]))
    with pytest.raises(ValueError, match="outside 0 to 1"):
        Topics(("a", "b"), ((), ()), centroids, np.array([0, 2]))
