from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.readers.beir import read_beir
from jasper_rag.text.records import Document, Query, RetrievalSet

CORPUS = (
    '{"_id": "d1", "title": "Cats", "text": "They purr."}\n'
    '{"_id": "d2", "title": "", "text": "They bark."}\n'
    '{"_id": "d3", "text": "They sing."}\n'
)
QUERIES = '{"_id": "q1", "text": "who purrs?"}\n{"_id": "q2", "text": "who barks?"}\n'
HEADER = "query-id\tcorpus-id\tscore\n"
FILES: Mapping[str, str] = {
    "corpus.jsonl": CORPUS,
    "queries.jsonl": QUERIES,
    "qrels/test.tsv": HEADER + "q1\td1\t1\nq1\td2\t0\n",
    "qrels/train.tsv": HEADER + "q2\td2\t2\n",
}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return root


def test_reads_documents_queries_and_judgements(tmp_path: Path) -> None:
    found = read_beir(write(tmp_path / "pets", {**FILES}))
    assert found == RetrievalSet(
        "pets",
        (Document("d1", "They purr.", "Cats"), Document("d2", "They bark."), Document("d3", "They sing.")),
        (Query("q1", "who purrs?"), Query("q2", "who barks?")),
        {"train": {"q2": {"d2": 2}}, "test": {"q1": {"d1": 1, "d2": 0}}},
    )
    assert list(found.qrels) == ["train", "test"]
    assert read_beir(tmp_path / "pets", name="mine").name == "mine"


def test_a_score_below_zero_counts_as_zero(tmp_path: Path) -> None:
    found = read_beir(
        write(tmp_path, {**FILES, "qrels/test.tsv": FILES["qrels/test.tsv"] + "q1\td3\t-1\nq1\td2\t-2\n"})
    )
    assert found.qrels["test"] == {"q1": {"d1": 1, "d2": 0, "d3": 0}}


def test_without_qrels_there_are_no_judgements(tmp_path: Path) -> None:
    found = read_beir(write(tmp_path, {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES}))
    assert found.qrels == {}


@pytest.mark.parametrize("alias", ["val", "valid", "validation", "Dev"])
def test_other_names_of_dev(tmp_path: Path, alias: str) -> None:
    files: dict[str, str | bytes] = {
        **FILES,
        f"qrels/{alias}.tsv": FILES["qrels/test.tsv"],
        "qrels/._dev.tsv": b"\xff\x00",
    }
    del files["qrels/test.tsv"]
    assert list(read_beir(write(tmp_path, files)).qrels) == ["train", "dev"]


def test_tolerates_byte_order_mark_line_ends_numbers_nulls_and_repeats(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "corpus.jsonl": b'\xef\xbb\xbf{"_id": 1, "title": null, "topic": "pets", "text": "1\xe2\x80\xa8line"}\r\n\r\n',
        "queries.jsonl": '{"_id": 7, "text": "who?"}\n\n\n',
        "qrels/test.tsv": "\ufeffquery_id\tcorpus_id\tscore\r\n7\t1\t1\r\n7\t1\t1\r\n\r\n",
    }
    found = read_beir(write(tmp_path, files))
    assert found.documents == (Document("1", "1\u2028line", "", "pets"),)
    assert found.qrels == {"test": {"7": {"1": 1}}}


BAD_ROWS = {
    "not json": ('{"_id": "d9", "text": ', "JSON", None),
    "array": ('["d9"]', "object is expected", None),
    "number": ("3", "object is expected", None),
    "deep": ("[" * 100_000, "deeply", None),
    "long number": ('{"_id": ' + "1" * 5000 + "}", "JSON", None),
    "no id": ('{"text": "x"}', "id is missing", "_id"),
    "empty id": ('{"_id": " ", "text": "x"}', "id is empty", "_id"),
    "boolean id": ('{"_id": true, "text": "x"}', "string", "_id"),
    "list id": ('{"_id": [1], "text": "x"}', "string", "_id"),
    "tab in id": ('{"_id": "a\\tb", "text": "x"}', "tab", "_id"),
    "half a character": ('{"_id": "d9", "text": "x\\ud800"}', "surrogate", "text"),
    "no text": ('{"_id": "d9"}', "text", "text"),
    "text not a string": ('{"_id": "d9", "text": 5}', "string", "text"),
    "empty": ('{"_id": "d9", "text": " "}', "empty|neither", "text"),
}


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_row_names_file_line_and_field(tmp_path: Path, file: str, kind: str) -> None:
    line, problem, field = BAD_ROWS[kind]
    content = FILES[file] + line + "\n"
    with pytest.raises(InputError, match=problem) as caught:
        read_beir(write(tmp_path, {**FILES, file: content}))
    assert caught.value.path == tmp_path / file
    assert caught.value.line == content.count("\n")
    assert caught.value.field == field
    assert caught.value.remedy


def test_title_must_be_a_string(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"corpus.jsonl:1 \[title\]"):
        read_beir(write(tmp_path, {**FILES, "corpus.jsonl": '{"_id": "d1", "title": 3, "text": "x"}\n'}))


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
def test_double_id_names_both_lines(tmp_path: Path, file: str) -> None:
    first = FILES[file].splitlines(keepends=True)[0]
    with pytest.raises(InputError, match="line 1") as caught:
        read_beir(write(tmp_path, {**FILES, file: FILES[file] + first}))
    assert caught.value.line == FILES[file].count("\n") + 1


def test_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    good = CORPUS.encode()
    with pytest.raises(InputError, match=f"byte offset {len(good) + 2}") as caught:
        read_beir(write(tmp_path, {**FILES, "corpus.jsonl": good + b'{"\xe9"}\n'}))
    assert caught.value.line == 4
    with pytest.raises(InputError, match="UTF-16"):
        read_beir(write(tmp_path, {**FILES, "corpus.jsonl": CORPUS.encode("utf-16")}))


QRELS_FAULTS = {
    "blanks": ("q1 d1 1", "tab", None),
    "four columns": ("q1\t0\td1\t1", "4 tab-separated", None),
    "not whole": ("q1\td1\t0.5", "'0.5' is not a whole number", "score"),
    "word": ("q1\td1\tyes", "not a whole number", "score"),
    "huge": ("q1\td1\t" + "9" * 5000, "not a whole number", "score"),
    "unknown query": ("q9\td1\t1", "'q9' is not in queries.jsonl", "query-id"),
    "unknown document": ("q1\td9\t1", "'d9' is not in corpus.jsonl", "corpus-id"),
    "empty id": ("\td9\t1", "empty", "query-id"),
    "contradiction": ("q1\td1\t2", "contradicts line 2", "score"),
    "two splits": ("q2\td1\t1", "split", "query-id"),
}


@pytest.mark.parametrize("kind", QRELS_FAULTS)
def test_bad_judgement_names_file_line_and_field(tmp_path: Path, kind: str) -> None:
    line, problem, field = QRELS_FAULTS[kind]
    with pytest.raises(InputError, match=problem) as caught:
        read_beir(write(tmp_path, {**FILES, "qrels/test.tsv": FILES["qrels/test.tsv"] + line + "\n"}))
    assert (caught.value.path, caught.value.line) == (tmp_path / "qrels/test.tsv", 4)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"corpus.jsonl": ""}, "empty"),
        ({"queries.jsonl": "\n\n"}, "empty"),
        ({"qrels/test.tsv": ""}, "empty"),
        ({"qrels/test.tsv": "q1\td1\t1\n"}, "header is missing"),
        ({"qrels/test.tsv": HEADER}, "no relevant"),
        ({"qrels/test.tsv": HEADER + "q1\td1\t0\n"}, "no relevant"),
        ({"qrels/val.tsv": HEADER, "qrels/dev.tsv": HEADER}, "both the split 'dev'"),
    ],
)
def test_bad_file(tmp_path: Path, changed: dict[str, str | bytes], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_beir(write(tmp_path, {**FILES, **changed}))


def test_missing_pieces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"corpus.jsonl: .*does not exist"):
        read_beir(tmp_path)
    write(tmp_path, {"corpus.jsonl": CORPUS})
    with pytest.raises(InputError, match=r"queries.jsonl: .*does not exist"):
        read_beir(tmp_path)
    write(tmp_path, {"queries.jsonl": QUERIES, "qrels/readme": "x"})
    with pytest.raises(InputError, match=r"no \.tsv file"):
        read_beir(tmp_path)


def test_files_and_directories_in_each_others_place(tmp_path: Path) -> None:
    write(tmp_path / "a", {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels": "x"})
    with pytest.raises(InputError, match="directory is expected"):
        read_beir(tmp_path / "a")
    write(tmp_path / "b", {"corpus.jsonl/x": "", "queries.jsonl": QUERIES})
    with pytest.raises(InputError, match="cannot be read"):
        read_beir(tmp_path / "b")


NASTY = [
    b"", b"\n", b"\r", b"\t", b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"null", b"-1", b"1e9", b"\\ud800", b"NaN",
    b"\xe2\x80\xa8", b'{"_id": "d1"}\n', b"q1\td1\t1\n", b'"_id"', b'"text"', b"\xef\xbb\xbf",
]  # fmt: skip


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(FILES)),
            st.floats(0, 1),
            st.integers(0, 12),
            st.sampled_from(NASTY) | st.binary(max_size=6),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_mutated_directory_never_raises_anything_else(
    tmp_path: Path, changes: list[tuple[str, float, int, bytes]]
) -> None:
    contents = {name: content.encode() for name, content in FILES.items()}
    for name, where, removed, inserted in changes:
        at = int(where * len(contents[name]))
        contents[name] = contents[name][:at] + inserted + contents[name][at + removed :]
    write(tmp_path, {**contents})
    try:
        found = read_beir(tmp_path)
    except InputError:
        return
    queries, documents = {q.id for q in found.queries}, {d.id for d in found.documents}
    assert len(queries) == len(found.queries)
    assert len(documents) == len(found.documents)
    for qrels in found.qrels.values():
        assert qrels.keys() <= queries
        assert all(judged.keys() <= documents for judged in qrels.values())
    json.dumps([(d.id, d.content) for d in found.documents], ensure_ascii=False).encode()
