from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.readers.judgement_files import KnownIds, read_judgement_directory, read_judgements

BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td 3\t-1\nq2\td1\t1\n"
TREC = "q1 0 d1 2\nq1 0 d2 0\n\nq2 0 d3 -1\r\nq2\t0\td1\t1\n"
READ = {"q1": {"d1": 2, "d2": 0}, "q2": {"d 3": 0, "d1": 1}}
READ_TREC = {"q1": {"d1": 2, "d2": 0}, "q2": {"d3": 0, "d1": 1}}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.mark.parametrize(
    ("name", "split"),
    [("judged.tsv", "all"), ("qrels", "all"), ("test.txt", "test"), ("validation.tsv", "dev"), ("Train.tsv", "train")],
)
def test_one_file_is_the_split_it_is_named_after_or_all(tmp_path: Path, name: str, split: str) -> None:
    write(tmp_path, {name: BEIR})
    assert read_judgements(tmp_path / name) == {split: READ}


def test_reads_trec_columns_with_blanks_or_tabs(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": TREC, "b.txt": "my query\t0\tmy document\t1\n"})
    assert read_judgements(str(tmp_path / "a.txt")) == {"all": READ_TREC}
    assert read_judgements(tmp_path / "b.txt") == {"all": {"my query": {"my document": 1}}}


def test_reads_a_directory_in_the_order_of_splits(tmp_path: Path) -> None:
    files: Mapping[str, str | bytes] = {
        "test.tsv": "q9 0 d9 1\n",
        "valid.tsv": "query_id\tcorpus_id\tscore\nq3\td1\t1\n",
        "train.tsv": BEIR,
        "extra.tsv": "e 0 d 1\n",
        ".x.tsv": b"\xff",
        "notes.txt": "not judgements",
    }
    found = read_judgements(write(tmp_path, files))
    assert found == {"train": READ, "dev": {"q3": {"d1": 1}}, "test": {"q9": {"d9": 1}}, "extra": {"e": {"d": 1}}}
    assert list(found) == ["train", "dev", "test", "extra"]
    assert read_judgement_directory(tmp_path) == found


def test_txt_files_count_where_there_is_no_tsv(tmp_path: Path) -> None:
    assert read_judgements(write(tmp_path, {"dev.txt": TREC})) == {"dev": READ_TREC}


def test_unknown_ids_are_named_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"all.tsv": BEIR}) / "all.tsv"
    queries, documents = KnownIds({"q1", "q2"}, "qids.txt"), KnownIds({"d1", "d2", "d 3"}, "ids.txt")
    assert read_judgements(path, queries, documents) == {"all": READ}
    with pytest.raises(InputError, match=r"all.tsv:4 \[query-id\]: query 'q2' is not in qids.txt"):
        read_judgements(path, KnownIds({"q1"}, "qids.txt"), documents)
    with pytest.raises(InputError, match=r"all.tsv:3 \[corpus-id\]: document 'd2' is not in ids.txt"):
        read_judgements(path, queries, KnownIds({"d1"}, "ids.txt"))


@pytest.mark.parametrize(
    ("content", "problem", "line"),
    [
        (b"", "empty", None),
        (b"\n \n", "empty", None),
        (b"\x93NUMPY\x01\x00", "not UTF-8", 1),
        ("q1\td1\t1\n", "header is missing", 1),
        ("my query\td1\t1\n", "header is missing", 1),
        ("q1 d1 1\n", "tab-separated", 1),
        ("a b c d\n", "tab-separated", 1),
        ("q1 0 d1 0.5\n", "'0.5' is not a whole number", 1),
        ("q1 0 d1 1\nq1 0 d 2 1\n", "5 columns, expected 4", 2),
        ("q1 0 d1 1\nq1 0 d2 high\n", "'high' is not a whole number", 2),
        ("q1 0 d1 1\nq1 0 d1 2\n", "contradicts line 1", 2),
        ("q1 0 d1 -1\n", "no relevant", None),
    ],
)
def test_bad_file(tmp_path: Path, content: str | bytes, problem: str, line: int | None) -> None:
    path = write(tmp_path, {"judged.txt": content}) / "judged.txt"
    with pytest.raises(InputError, match=problem) as caught:
        read_judgements(path)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, r"no \.tsv file here, and no \.txt"),
        ({"dev.tsv": TREC, "val.tsv": TREC}, "both the split 'dev'"),
        ({"dev.tsv": TREC, "test.tsv": "q1 0 d1 1\n"}, "query 'q1' is judged in split 'test' and in 'dev'"),
    ],
)
def test_bad_directory(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_judgements(write(tmp_path, files))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_judgements(tmp_path / "qrels")
    with pytest.raises(InputError, match="directory is expected"):
        read_judgement_directory(tmp_path / "qrels")


PIECES = [
    "q1",
    "d1",
    "\t",
    " ",
    "\n",
    "0",
    "1",
    "-1",
    "query-id",
    "corpus-id",
    "score",
    "\r",
    "\0",
    "\ufeff",
    "é",
    "9" * 20,
]


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join) | st.text(max_size=12), st.integers(0, 80))
def test_junk_raises_nothing_else(tmp_path: Path, junk: str, where: int) -> None:
    for base in (BEIR, TREC, ""):
        path = (
            write(tmp_path, {"x.txt": (base[:where] + junk + base[where:]).encode("utf-8", "surrogatepass")}) / "x.txt"
        )
        try:
            found = read_judgements(path)
        except InputError:
            continue
        assert any(score > 0 for judged in found["all"].values() for score in judged.values())
        assert all(score >= 0 for judged in found["all"].values() for score in judged.values())
