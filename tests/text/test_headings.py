from __future__ import annotations

import pytest

from jasper_rag.text.headings import heading_starts


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# One\ntext\n  ## Two\ntext", ["# One", "  ## Two"]),
        ("#no\n####### no\n#\n", []),
        ("```\n# no\n```\n# yes\n~~~\n# no\n```\n# no", ["# yes"]),
        ("Title\n=====\ntext\n\nPart\n----\n\n====\nOver\n====\ntext", ["Title", "Part", "===="]),
        ("text above\nnot a title\n-----------\n", []),
        ("Short\n===\nText\n\nToo long for it\n++++\n\nFits\n~~~~", ["Short", "Fits"]),
        ("\n----\n\ntext", []),
        (
            "1. Introduction\n\ntext\n\n1.1 Aims\n\ntext\n\n2 Methods\n\ntext",
            ["1. Introduction", "1.1 Aims", "2 Methods"],
        ),
        ("1. Open the door\n2. Close it", []),
        ("1. Open the door\n\n2. Close it\n\ntext", ["2. Close it"]),
        ("text\n1. Not alone\n\ntext", []),
        ("3 of them\n\ntext", []),
        ("1. A sentence ends so.\n\ntext", []),
        ("1. The last\n", []),
        ("# " + "long " * 30 + "\ntext", []),
        ("", []),
    ],
)
def test_headings(text: str, headings: list[str]) -> None:
    assert [text[start:].partition("\n")[0] for start in heading_starts(text)] == headings
