"""Near-duplicates against comparing every pair."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import normalised
from jasper_rag.text.near_duplicates import distinct_texts, near_duplicates, representatives, resemblance


def grams(text: str) -> set[str]:
    words = normalised(text).split()
    return {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}


def brute_force(texts: list[str], threshold: float) -> list[int]:
    """The first kept text that is equal or similar enough, by comparing with each."""
    found: list[int] = []
    for row, text in enumerate(texts):
        for kept in range(row):
            a, b = grams(text), grams(texts[kept])
            similar = bool(a and b) and len(a & b) / len(a | b) >= threshold - 1e-9
            if found[kept] == kept and (similar or normalised(text) == normalised(texts[kept])):
                found.append(kept)
                break
        else:
            found.append(row)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_the_index_finds_what_all_comparisons_find(threshold: float) -> None:
    draw = random.Random(4)
    words = [f"w{number}" for number in range(40)]
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 30))) for _ in range(40)]
    for _ in range(70):
        changed = draw.choice(texts).split()
        for _ in range(draw.randint(0, 3)):
            changed.insert(draw.randint(0, len(changed)), draw.choice(words))
        texts.append(" ".join(changed).upper() + "!")
    found = representatives(texts, threshold)
    assert found == brute_force(texts, threshold)
    assert len(set(found)) < len(texts)


@pytest.mark.slow
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=12))
def test_any_few_texts(texts: list[str]) -> None:
    assert representatives(texts) == brute_force(texts, 0.8)


def test_resemblance_is_the_share_of_common_runs() -> None:
    one, other = "a b c d e f", "a b c d e g"
    assert resemblance(one, other) == 1 / 3
    assert resemblance("a b c d", "a b c d") == 0.0  # no run of five words
    assert near_duplicates("A b, c d", "a b c d!")
    assert not near_duplicates(one, other)
    assert near_duplicates(one, other, 1 / 3)


def test_eighty_percent_is_enough() -> None:
    words = [f"w{number}" for number in range(13)]  # 9 runs, 8 of them in common with the text without the last word
    assert resemblance(" ".join(words), " ".join(words[:-1])) == 8 / 9
    assert representatives([" ".join(words), " ".join(words[:-1])]) == [0, 0]
    # 5 runs and 4 of them: exactly .8
    assert representatives([" ".join(words[:9]), " ".join(words[:8])]) == [0, 0]
    assert representatives([" ".join(words[:8]), " ".join(words[:7])]) == [0, 1]


def test_a_chinese_sign_is_a_word() -> None:
    text = "机器学习是人工智能的一个分支它使系统能够从数据中学习"
    assert representatives([text, text + "的", "完全不同的一句话在这里"]) == [0, 0, 2]


def test_kept_texts_and_what_stands_for_the_others() -> None:
    long = "one two three four five six seven eight nine ten"
    found = distinct_texts(["  ", long, "Short.", "short", long + " eleven"])
    assert found.texts == (long, "Short.")
    assert found.rows == (-1, 0, 1, 1, 0)
    assert (found.blank, found.equal, found.similar) == (1, 1, 1)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="threshold is 0"):
        representatives(["a"], 0)
    with pytest.raises(InputError, match="there is no text"):
        distinct_texts(["", " \n"])
    assert representatives([]) == []
