from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.chunking import Chunk, How, chunk_corpus, chunk_document, count_words
from jasper_rag.text.records import Document

TEXT = "One two three. Four five. Six seven eight nine ten eleven. Twelve."


def texts(text: str, how: How, size: int, overlap: int = 0, count: Callable[[str], int] | None = None) -> list[str]:
    return [chunk.text.strip() for chunk in chunk_document(Document("d", text), how, size, overlap, count)]


def test_by_tokens() -> None:
    assert texts("a b c d e f g", "tokens", 3) == ["a b c", "d e f", "g"]
    assert texts("a b c d e f g", "tokens", 3, 1) == ["a b c", "c d e", "e f g"]
    assert texts("a b c d e f g", "tokens", 4, 3) == ["a b c d", "b c d e", "c d e f", "d e f g"]
    assert texts("a b c", "tokens", 3, 2) == ["a b c"]


def test_by_tokens_of_a_tokenizer() -> None:
    assert texts("aa bb cc dd", "tokens", 5, 0, len) == ["aa bb", "cc dd"]
    assert texts("aa bbbbbbbbbb cc", "tokens", 4, 0, len) == ["aa", "bbbb", "bbbb", "bb", "cc"]
    # The repeated word leaves no room for a long one, so it is not repeated.
    assert texts("aa bb cccc dd", "tokens", 5, 2, len) == ["aa bb", "cccc", "dd"]


def test_by_sentence() -> None:
    assert texts(TEXT, "sentences", 6) == ["One two three. Four five.", "Six seven eight nine ten eleven.", "Twelve."]
    assert texts(TEXT, "sentences", 8, 2) == [
        "One two three. Four five.",
        "Four five. Six seven eight nine ten eleven.",
        "Twelve.",
    ]
    # A sentence that is too long is cut between words; what is left of it goes with the next.
    assert texts(TEXT, "sentences", 4) == [
        "One two three.",
        "Four five.",
        "Six seven eight nine",
        "ten eleven. Twelve.",
    ]


def test_by_heading() -> None:
    text = "Before.\n\n# One\n\n## Two\n\nText two. More text.\n\n# Three\n\nText three.\n\n# Four\n"
    assert texts(text, "headings", 9) == [
        "Before.",
        "# One\n\n## Two\n\nText two. More text.",
        "# Three\n\nText three.",
        "# Four",
    ]
    assert texts(text, "headings", 4, 1)[1:4] == ["# One\n\n## Two", "Text two. More text.", "# Three\n\nText three."]
    assert texts("# Only\n", "headings", 9) == ["# Only"]
    assert texts("\n\n# Head\ntext", "headings", 9) == ["# Head\ntext"]
    assert texts("no heading at all", "headings", 2) == ["no heading", "at all"]


def test_nothing_is_cut() -> None:
    document = Document("d", f"  {TEXT}\n", "Title")
    whole = [Chunk("d", document.text, "Title", 0, len(document.text))]
    assert chunk_document(document, "none", 1, 0) == whole
    for how in ("tokens", "sentences", "headings"):
        assert chunk_document(document, how, 100) == whole
    assert chunk_document(Document("d", "", "Title"), "tokens") == [Chunk("d", "", "Title", 0, 0)]


def test_a_corpus_knows_the_parents() -> None:
    documents = [Document("a", " x ", "A", "t"), Document("b", "one  two\nthree ", "B"), Document("c", "", "C")]
    passages, parents = chunk_corpus(iter(documents), "tokens", 2, 0)
    assert passages == [
        Document("a#0", " x ", "A", "t"),
        Document("b#0", "one  two", "B"),
        Document("b#1", "three", "B"),
        Document("c#0", "", "C"),
    ]
    assert parents == [0, 1, 1, 2]


def test_ids_stay_unique() -> None:
    passages, _ = chunk_corpus([Document("a", "x y"), Document("a#0", "x y"), Document("a#1", "x")], "tokens", 1, 0)
    assert len({passage.id for passage in passages}) == len(passages) == 5


@pytest.mark.parametrize(
    ("how", "size", "overlap", "field"),
    [("lines", 5, 0, "how"), ("tokens", 0, 0, "size"), ("tokens", 5, 5, "overlap"), ("none", 5, -1, "overlap")],
)
def test_bad_settings(how: How, size: int, overlap: int, field: str) -> None:
    with pytest.raises(InputError) as caught:
        chunk_document(Document("d", TEXT), how, size, overlap)
    assert caught.value.field == field
    assert caught.value.remedy


def test_special_tokens_that_fill_a_chunk() -> None:
    with pytest.raises(InputError, match="one character counts 3 tokens"):
        chunk_document(Document("d", TEXT), "tokens", 2, 0, lambda text: len(text.split()) + 2)


COUNTS: list[Callable[[str], int]] = [count_words, len, lambda text: len(text.encode()) // 4 + 1]
WORDS = ["word", "a", "Longer-word,", "end.", "B!", "1. In", "句。"]
pieces = st.sampled_from([*WORDS, " ", "  ", "\n", "\n\n", "\t", "# H", "\n# Two\n", "===="])


@pytest.mark.slow
@given(
    st.lists(pieces, max_size=30).map(lambda parts: " ".join(parts)) | st.lists(pieces, max_size=30).map("".join),
    st.sampled_from(["tokens", "headings", "sentences"]),
    st.integers(4, 12),
    st.integers(0, 3),
    st.integers(0, len(COUNTS) - 1),
)
def test_chunks_cover_the_text_and_keep_the_size(text: str, how: How, size: int, overlap: int, which: int) -> None:
    count = COUNTS[which]
    plain = chunk_document(Document("d", text), how, size, 0, count)
    assert "".join(chunk.text for chunk in plain) == text
    overlapping = chunk_document(Document("d", text), how, size, overlap, count)
    for chunks in (plain, overlapping):
        assert chunks[0].start == 0
        assert chunks[-1].end == len(text)
        for chunk in chunks:
            assert chunk.text == text[chunk.start : chunk.end]
            assert count(chunk.text.strip()) <= size or not text.strip()
            assert chunk.text.strip() or len(chunks) == 1
        for before, after in itertools.pairwise(chunks):
            assert before.start < after.start <= before.end < after.end
            assert after.start == before.end or count(text[after.start : before.end].strip()) <= overlap


@pytest.mark.slow
@pytest.mark.parametrize("how", ["tokens", "headings", "sentences"])
@pytest.mark.parametrize("text", [TEXT + " ", "x", "a ", "# A\n\nb. "])
def test_long_documents_take_no_time(how: How, text: str) -> None:
    text *= 50_000 // len(text)
    before = time.process_time()
    chunks = chunk_document(Document("d", text), how, 256, 32)
    assert time.process_time() - before < 3
    assert chunks[-1].end == len(text)
