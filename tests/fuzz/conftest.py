"""What the fuzz tests share: texts and bytes worth trying, and the verdict on what a reader made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from jasper_rag.errors import InputError
from jasper_rag.text.records import RetrievalSet

Files = Mapping[str, bytes]
Read = Callable[[Path], Any]

WORDS = ["cat", "dog", "λόγος", "猫", "naïve"]
# Marks that other programs split, strip, quote or misread at.
ODDITIES = [
    *("\u202e\u05d0\u05d1", "\U0001f600", "\u2028", "\x85", "\x0b", "\x1c", "\ufeff", "\x00", "\u200b", "e\u0301"),
    *("a\tb", '"', "\\", "'", ",", ";", "|", "NaN", "null", "-0", "1e999", "<b>", "\r", "\n", "{}", "q0\td0\t1"),
]
NASTY = [
    *(
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b",",
        b'"',
        b"\\",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"\xe2\x80\xa8", b"\\ud800", b"null", b"NaN", b"[", b"{", b"}", b":", b"-", b"9" * 5000, b"1e999", b" ", b"#"),
    *(b'"_id": ', b'"text": ', b"\xf0\x9f\x98\x80"),
]


@pytest.fixture(scope="session")
def some_text() -> Callable[[random.Random], str]:
    """A text with a visible word and whatever else Unicode has."""

    def text(chance: random.Random) -> str:
        return " ".join([chance.choice(WORDS), *chance.choices(WORDS + ODDITIES, k=chance.randrange(4))])

    return text


@pytest.fixture(scope="session")
def damage() -> SearchStrategy[Callable[[bytes], bytes]]:
    """Changes of bytes wherever they fall: some removed or flipped and some put in, or the end cut off."""
    place = st.floats(0, 1, exclude_max=True)
    inserted = st.sampled_from(NASTY) | st.binary(max_size=4)

    def splice(where: float, removed: int, added: bytes) -> Callable[[bytes], bytes]:
        return lambda raw: raw[: int(where * len(raw))] + added + raw[int(where * len(raw)) + removed :]

    def flip(where: float, bits: int) -> Callable[[bytes], bytes]:
        return lambda raw: bytes(
            byte ^ bits if position == int(where * len(raw)) else byte for position, byte in enumerate(raw)
        )

    def double(where: float, length: int) -> Callable[[bytes], bytes]:
        return lambda raw: raw[: int(where * len(raw)) + length] + raw[int(where * len(raw)) :]

    return (
        st.builds(splice, place, st.integers(0, 12), inserted)
        | st.builds(flip, place, st.integers(1, 255))
        | st.builds(double, place, st.integers(1, 60))
        | place.map(lambda where: lambda raw: raw[: int(where * len(raw))])
    )


@pytest.fixture
def explore() -> Callable[[SearchStrategy[Any], Callable[[Any], None], int], None]:
    """`explore(cases, check, examples)`: `check` holds for that many cases."""

    def run(cases: SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
        @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def holds(case: Any) -> None:
            check(case)

        holds()

    return run


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Files], Path]:
    """`written(files)`: a folder that holds these files and no others."""
    folder, there = tmp_path / "set", set[str]()

    def write(files: Files) -> Path:
        for name in there - files.keys():
            (folder / name).unlink()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        there.clear()
        there.update(files)
        return folder

    return write


@pytest.fixture(scope="session")
def judge() -> Callable[..., None]:
    """Read, and hold what came of it against a plain reading of the same bytes.

    `must` is "refuse"; "same", as `original`; "read", as the plain reading; or "any": refuse, or read as plainly.
    What the plain reading refuses (None) must be refused. An error names its file, its line where the line is known
    (`place`), and a remedy.
    """

    def verdict(read: Read, path: Path, plain: Any, must: str, original: Any = None, place: Any = None) -> None:
        refusal: InputError | None = None
        found = None
        try:
            found = read(path)
        except InputError as error:
            refusal = error
        if refusal is not None:
            assert must in ("refuse", "any"), f"good input is refused: {refusal}"
            assert str(path) in str(refusal)
            assert refusal.remedy
            assert place is None or (refusal.path and refusal.path.name, refusal.line) == place, refusal
            return
        assert must != "refuse", f"bad input is read as {found}"
        assert plain is not None, f"bad input is read as {found}"
        assert found == plain
        if must == "same":
            assert found == original
        if isinstance(found, RetrievalSet):
            require_valid(found)

    return verdict


def require_valid(found: RetrievalSet) -> None:
    """Unique ids without separators, texts that say something, judgements of what there is, all of it UTF-8."""
    documents, queries = {one.id for one in found.documents}, {one.id for one in found.queries}
    assert (len(documents), len(queries)) == (len(found.documents), len(found.queries))
    assert documents
    assert all(name and name == name.strip() and not set(name) & set("\t\r\n") for name in documents | queries)
    assert all(document.content.strip() for document in found.documents)
    assert all(query.text.strip() for query in found.queries)
    judged = [query for qrels in found.qrels.values() for query in qrels]
    assert len(judged) == len(set(judged))
    assert set(judged) <= queries
    for qrels in found.qrels.values():
        assert all(set(grades) <= documents for grades in qrels.values())
        assert any(grade > 0 for grades in qrels.values() for grade in grades.values())
    values = [[d.id, d.text, d.title, d.topic] for d in found.documents] + [[q.id, q.text] for q in found.queries]
    json.dumps([found.name, values], ensure_ascii=False).encode("utf-8")
