from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.keyword_cells import row_keywords
from jasper_rag.text.readers.rows import Row


def read(value: object) -> tuple[str, ...]:
    return row_keywords(Row(Path("pairs.csv"), 7, {"tags": value}), "tags")


@pytest.mark.parametrize(
    ("value", "keywords"),
    [
        (None, ()),
        ("", ()),
        ("git", ("git",)),
        ("git; docker ;;Git", ("git", "docker")),
        ("git, svn | docker", ("git, svn", "docker")),
        ("a, b; c|d", ("a, b", "c|d")),
        ("git, docker  image", ("git", "docker image")),
        ('["git", "a; b"]', ("git", "a; b")),
        (["git", "docker"], ("git", "docker")),
        ('[{"term": "git", "confidence": 0.1, "type": "x"}, {"keyword": "svn"}]', ("git", "svn")),
        ('[{"topic_descriptor": "a", "probability": 0.5}, {"topic_descriptor": "b", "probability": 0.49}]', ("a",)),
        ("[]", ()),
    ],
)
def test_what_people_write(value: object, keywords: tuple[str, ...]) -> None:
    assert read(value) == keywords


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("['git']", "begins as a JSON list, but is none"),
        ("[" * 100_000, "begins as a JSON list, but is none"),
        ("[1]", r"1 \(int\) is no keyword"),
        ('[{"name": "git"}]', "is no keyword"),
        ('[{"term": "git", "probability": "high"}]', "the probability 'high'"),
        (3, "keywords are a list or a text, got 3"),
    ],
)
def test_faults_name_the_place(value: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(value)
    assert (caught.value.path, caught.value.line, caught.value.field) == (Path("pairs.csv"), 7, "tags")
