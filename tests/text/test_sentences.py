from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.text.sentences import looks_like_code, sentence_spans

PYTHON = """def area(self, scale=1):
    # The circle's area.
    radius = self.radius * scale
    return pi * radius ** 2
"""


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "whole",
    [
        "Dr. Smith met Mrs. Jones.",
        "Smith et al. (2020) saw it.",
        "See Fig. 3 and Eq. 12, i.e. both.",
        "It costs 3.14 in v1.2.3 of os.path.join.",
        "J. R. R. Tolkien wrote for the U.S. Army.",
        "The firm is Acme Inc. Boston.",
        "1. Install it first.",
        "He asked it ... and went on.",
        '"Why?" she asked.',
        "Write `a. B` and `c? D` here.",
        "Visit https://example.org/a.b?c=d! now.",
        "no capitals here",
    ],
)
def test_what_is_one_sentence(whole: str) -> None:
    assert sentences(whole) == [whole]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He left... Then he came.", ["He left...", "Then he came."]),
        ('He said "stop." (Nobody did.) She went.', ['He said "stop."', "(Nobody did.)", "She went."]),
        ("It was in the U.S. The end.", ["It was in the U.S.", "The end."]),
        ("Take vitamin C. It helps.", ["Take vitamin C.", "It helps."]),
        ("The answer is no. But see No. 5 etc. Then go.", ["The answer is no.", "But see No. 5 etc.", "Then go."]),
        ("In 1999. The next.", ["In 1999.", "The next."]),
        ("first one . second one. third", ["first one .", "second one.", "third"]),
        ("A line\nwrapped here. Next\none.", ["A line\nwrapped here.", "Next\none."]),
        ("A paragraph\n\n another", ["A paragraph", "another"]),
        ("这是一句。这是另一句！“对吗？”好", ["这是一句。", "这是另一句！", "“对吗？”", "好"]),  # noqa: RUF001
        ("यह एक है। यह दो है।", ["यह एक है।", "यह दो है।"]),
        ("# Head\nText\n- item one\n- item two\n2) three", ["# Head", "Text", "- item one", "- item two", "2) three"]),
        ("Title\n=====\nText.", ["Title\n=====", "Text."]),
        ("Use it:\n```\na. B\n\nc. D\n```\nDone. Yes.", ["Use it:", "```\na. B\n\nc. D\n```", "Done.", "Yes."]),
        ("Title\n~~~~~\n\nOne. Two.", ["Title\n~~~~~", "One.", "Two."]),
        ("As in\n~~~\na. B\n~~~", ["As in", "~~~\na. B\n~~~"]),
        ("```\nnever closed. Really", ["```\nnever closed. Really"]),
        (" \n\t ", []),
        ("", []),
        (". . .", [".", ".", "."]),
    ],
)  # fmt: skip
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_code_is_cut_at_lines() -> None:
    assert looks_like_code(PYTHON)
    assert sentences(PYTHON) == [line.strip() for line in PYTHON.splitlines()]
    assert looks_like_code("for (int i = 0; i < n; i++) {\n  sum += i;\n}\n")


@pytest.mark.parametrize(
    "text",
    [
        "One line = one line;",
        "Roses are red,\nviolets are blue,\nsugar is sweet\nand so are you.",
        "# One\n## Two\n### Three\nText.",
        "For example, a list:\n- one\n- two (or three)\n\nReturn it to the shop when done with it.",
        "",
    ],
)
def test_prose_is_no_code(text: str) -> None:
    assert not looks_like_code(text)


@given(st.text(alphabet=st.sampled_from("aB1 .!?\n`-#=\"')。é\t"), max_size=80) | st.text(max_size=60))
def test_spans_hold_every_visible_character_in_order(text: str) -> None:
    spans = sentence_spans(text)
    at = 0
    for start, end in spans:
        assert not text[at:start].strip()
        assert start < end
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not text[at:].strip()


@pytest.mark.slow
@pytest.mark.parametrize("text", [".", "a. ", "e.g. X ", "`a. ", "x" * 30 + " ", "\n", "# a\n", ".)x", "if a;\n"])
def test_a_megabyte_takes_no_time(text: str) -> None:
    text *= 50_000 // len(text)
    before = time.process_time()
    sentence_spans(text)
    assert time.process_time() - before < 2
