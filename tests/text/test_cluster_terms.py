from __future__ import annotations

import math
import random

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.cluster_terms import _variants, class_tf_idf, describe_clusters

GIT = ["git: commit on a branch", "Git, branches and commits", "merge a branch with git", "git"]
DOCKER = ["docker, container, image", "a container by docker", "Docker, image", "build for docker"]
HEART = ["high blood pressure", "blood pressure and the heart", "the heart beats", "heart attacks, blood pressure"]
TEXTS = [*GIT, *DOCKER, *HEART]
ASSIGNMENT = [0] * 4 + [1] * 4 + [2] * 4


def test_class_tf_idf_by_hand() -> None:
    found = class_tf_idf([{(1,): 3.0, (2,): 1.0}, {(1,): 2.0}])
    # n = 4 and 2, A = 3, f = 5 and 1.
    assert found[0] == pytest.approx({(1,): 3 / 4 * math.log(1 + 3 / 5), (2,): 1 / 4 * math.log(1 + 3 / 1)})
    assert found[1] == pytest.approx({(1,): 2 / 2 * math.log(1 + 3 / 5)})


def test_class_tf_idf_of_nothing() -> None:
    assert class_tf_idf([]) == []
    assert class_tf_idf([{}, {(1,): 1.0}])[0] == {}


def test_names_are_what_sets_clusters_apart() -> None:
    names = [described.name for described in describe_clusters(TEXTS, ASSIGNMENT, 3)]
    assert names[:2] == ["git, branch, commit", "docker, container, image"]
    # "blood" and "pressure" always stand together, so the pair is shown and neither of them beside it.
    assert names[2].split(", ")[:2] == ["blood pressure", "heart"]


def test_the_list_goes_on_where_the_name_ends() -> None:
    described = describe_clusters(TEXTS, ASSIGNMENT, 3, terms=4)[0]
    assert described.terms == ("git", "branch", "commit", "merge")


def test_the_order_of_texts_changes_nothing() -> None:
    expected = describe_clusters(TEXTS, ASSIGNMENT, 3)
    order = list(range(len(TEXTS)))
    for seed in range(5):
        random.Random(seed).shuffle(order)
        assert describe_clusters([TEXTS[i] for i in order], [ASSIGNMENT[i] for i in order], 3) == expected


def test_a_word_that_one_text_repeats_counts_by_its_root() -> None:
    texts = ["spam spam spam spam spam", "tea cup", "tea cup", "tea cup", "other words", "more words here"]
    assert describe_clusters(texts, [0, 0, 0, 0, 1, 1], 2)[0].terms[0] == "tea cup"


def test_a_term_names_one_cluster_only_where_others_are_left() -> None:
    texts = ["git, commit, branch, merge", "git, push, pull, remote", "git, push, pull, remote"]
    names = [set(described.name.split(", ")) for described in describe_clusters(texts, [0, 1, 1], 2)]
    assert len(names[0]) == len(names[1]) == 3
    assert not names[0] & names[1]


def test_clusters_alike_still_get_different_names() -> None:
    found = describe_clusters(["apple"] * 6, [0, 0, 1, 1, 2, 2], 3)
    assert [described.name for described in found] == ["apple", "apple (2)", "apple (3)"]


def test_clusters_without_a_term_are_numbered() -> None:
    found = describe_clusters(["12 34", "the of", "apple pie"], [0, 1, 2], 4)
    assert [described.name for described in found] == ["topic 1", "topic 2", "apple pie", "topic 4"]
    assert found[0].terms == ()


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("rna", "rnas", True),
        ("turkey", "turkish", True),
        ("file1", "file2", True),
        ("armenian", "armenia", True),
        ("go", "gopher", False),
        ("port", "pork", False),
        ("transport", "transplant", False),
        ("10", "1", False),
        ("go", "go1", True),
    ],
)
def test_variants(one: str, other: str, alike: bool) -> None:
    assert _variants(one, other) is _variants(other, one) is alike


def test_variants_do_not_stand_in_one_name() -> None:
    texts = ["Turkey Turkish, file1 file2, boat", "Turkish; Turkey; file1 file2; boat"] * 2 + ["unrelated words"]
    name = describe_clusters(texts, [0, 0, 0, 0, 1], 2)[0].name.lower()
    assert "boat" in name
    assert name.count("turk") == 1
    assert name.count("file") == 1


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="2 texts but 1 assignments"):
        describe_clusters(["a", "b"], [0], 1)
    with pytest.raises(ValueError, match="clusters -1 to 3, expected 0 to 2"):
        describe_clusters(["a", "b"], [-1, 3], 3)
    with pytest.raises(InputError, match="unknown language"):
        describe_clusters(["a"], [0], 1, "klingon")
