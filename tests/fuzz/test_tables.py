"""JSON lines, CSV and TSV of questions and answers, damaged: refused with the place named, or read as they say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.records import Document, Query, RetrievalSet

Record = dict[str, Any]
Lines = list[str]

SEPARATORS = {"jsonl": "", "csv": ",", "tsv": "\t"}
QUESTIONS, ANSWERS = ("query", "question", "anchor"), ("document", "positive", "answer", "context", "passage", "text")
SEEDS = st.integers(0, 9_999)
NO_STRINGS = [1e999, True, float("nan"), ["a"], {"a": "b"}, "x\ud800"]
BLANKS = ["", " ", "\u3000"]
BAD_LINES = ["[]", "{", "5", "null", "[" * 100_000, '{"question": "a", "question": "a", "answer": "b"}']


def some_records(chance: random.Random, some_text: Callable[[random.Random], str]) -> list[Record]:
    """Valid pairs; the last has the question of the first and the answer of the one before it."""
    columns = chance.choice([(), ("title", "topic"), ("id", "query_id"), ("split", "other"), ("split", "query_id")])
    answers = [f"{some_text(chance)} {number}" for number in range(3)]
    records: list[Record] = []
    for number in range(chance.randint(3, 5)):
        answer = chance.randrange(3)
        row = {"question": f"{some_text(chance)} {number}?", "answer": answers[answer]}
        also = {"id": f"é {answer}", "query_id": f"q{number}", "title": f"heading {answer}", "topic": "t"}
        also |= {"split": ["train", "Validation", "test"][number % 3], "other": some_text(chance)}
        records.append(row | {column: also[column] for column in columns})
    of_answer = {field: records[-1][field] for field in ("answer", "id") if field in records[-1]}
    return [*records, records[0] | of_answer]


def rendered(records: list[Record], suffix: str, *, end: str = "\n", quote: bool = False, escape: bool = True) -> str:
    """The file; a cell is quoted where it must be, or everywhere."""

    def cell(value: str) -> str:
        special = quote or set(value) & set(f'{SEPARATORS[suffix]}"\r\n')
        return '"' + value.replace('"', '""') + '"' if special else value

    if suffix == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=escape) + end for row in records)
    table = [list(records[0]), *(row.values() for row in records)]
    return "".join(SEPARATORS[suffix].join(map(cell, row)) + end for row in table)


def plain_cells(text: str, separator: str) -> list[list[str]]:
    """The cells of a table by RFC 4180, character by character; ValueError where a quote is out of place."""
    rows, row, cell, state = list[list[str]](), list[str](), "", "start"
    for mark in text + "\n" * (not text.endswith("\n")):
        if state == "return" and mark not in "\r\n":
            raise ValueError
        if state == "quoted":
            cell, state = (cell, "closed") if mark == '"' else (cell + mark, state)
        elif state == "closed" and mark == '"':
            cell, state = cell + mark, "quoted"
        elif state == "start" and mark == '"':
            state = "quoted"
        elif mark in (separator, "\n"):
            row, cell, state = [*row, cell], "", "start"
            if mark == "\n":
                rows, row = [*rows, row], []
        elif mark == "\r":
            state = "return"
        elif state == "closed":
            raise ValueError
        else:
            cell, state = cell + mark, "open"
    if state != "start":
        raise ValueError
    return [row for row in rows if any(cell.strip() for cell in row)]


def plain_records(raw: bytes, suffix: str) -> list[Record]:
    text = raw.decode("utf-8-sig")
    if suffix == "jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip(" \t\r")]
    header, *rows = plain_cells(text, SEPARATORS[suffix])
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        raise ValueError
    return [dict(zip(names, row, strict=True)) for row in rows]


def plain(raw: bytes, suffix: str) -> RetrievalSet | None:
    """What the file says, row by row; None: nothing that could be used."""
    documents, queries = dict[str, Document](), dict[str, Query]()
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    stands_for: dict[tuple[str, str], str] = {}
    try:
        records = plain_records(raw, suffix)
        names = {name for row in records for name in row}
        question = next((name for name in QUESTIONS if name in names), None)
        answer = next(name for name in ANSWERS if name in names)
        for number, row in enumerate(records):
            new = number if question is None else len(documents)
            document = Document(
                identifier(row["id"]) if "id" in names else f"d{new}",
                string(row[answer]),
                row.get("title") or "",
                row.get("topic") or "",
            )
            (document.title + document.topic).encode()
            if "id" in names and stands_for.setdefault(("id", document.id), document.text) != document.text:
                return None
            if question is None and document.id in documents:
                return None
            document = documents.setdefault(document.id if question is None else document.text, document)
            if question is None:
                continue
            name = identifier(row["query_id"]) if "query_id" in names else f"q{len(queries)}"
            query = queries.setdefault(string(row[question]), Query(name, row[question]))
            split = string(row["split"]).strip().lower() if "split" in names else "all"
            split = "dev" if split in ("val", "valid", "validation") else split
            if "query_id" in names and stands_for.setdefault(("query", name), query.text) != query.text:
                return None
            if stands_for.setdefault(("split", query.id), split) != split:
                return None
            qrels.setdefault(split, {}).setdefault(query.id, {})[document.id] = 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration):
        return None
    return RetrievalSet("pairs", tuple(documents.values()), tuple(queries.values()), qrels) if records else None


def string(value: str) -> str:
    value.encode()
    if not value.strip():
        raise ValueError
    return value


def identifier(value: Any) -> str:
    name = string(str(value) if type(value) is int else value).strip()
    if set("\t\r\n") & set(name):
        raise ValueError
    return name


def faults(records: list[Record], suffix: str) -> Iterator[tuple[Lines, int | None]]:
    """Lines with one fault each, and the line to be reported (None: the whole file). Texts are of one line."""
    header = suffix != "jsonl"
    content = rendered(records, suffix).splitlines()
    for short in ([], [""], content[:1]) if header else ([], [""]):
        yield short, None
    for at, row in enumerate(records):
        bad = [rendered([row | {field: blank}], suffix) for field in ("question", "answer") for blank in BLANKS]
        if at == len(records) - 1:
            shared = [("id", "answer"), ("query_id", "question"), ("split", "split")]
            bad += [rendered([row | {value: "another"}], suffix) for field, value in shared if field in row]
        lines = [text.splitlines()[header] for text in bad]
        if header:
            good, separator = content[at + 1], SEPARATORS[suffix]
            lines += [
                "lonely",
                good + separator,
                good.replace(separator, "", 1),
                f'"a"b{good}',
                f'"{good}',
                f"a\rb{good}",
            ]
        else:
            required = row.keys() - {"title", "topic", "other"}
            lines += BAD_LINES + [content[at][:cut] for cut in range(1, len(content[at]), 9)]
            lines += [json.dumps(row | {field: value}) for field in row.keys() - {"other"} for value in NO_STRINGS]
            lines += [json.dumps({key: value for key, value in row.items() if key != field}) for field in required]
        for line in lines:
            yield [*content[: at + header], line, *content[at + header + 1 :]], at + header + 1


@st.composite
def harmless(draw: st.DrawFn, records: list[Record], suffix: str) -> str:
    """The same set, written otherwise."""
    names = {"question": draw(st.sampled_from(QUESTIONS)), "answer": draw(st.sampled_from(ANSWERS))}
    order = draw(st.permutations(list(records[0])))
    other = [{names.get(field, field): row[field] for field in order} for row in records]
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \n"]))
    text = rendered(other, suffix, end=end, quote=draw(st.booleans()), escape=draw(st.booleans()))
    return draw(st.sampled_from(["", "\ufeff"])) + (text.rstrip("\r\n \t") if draw(st.booleans()) else text)


@pytest.fixture
def read(written: Callable[..., Path]) -> Callable[[bytes, str], Path]:
    return lambda raw, suffix: written({f"pairs.{suffix}": raw}) / f"pairs.{suffix}"


@pytest.mark.slow
@pytest.mark.parametrize("examples", [12, pytest.param(3000, marks=pytest.mark.slow)])
def test_tables(
    examples: int,
    some_text: Callable[[random.Random], str],
    damage: SearchStrategy[Callable[[bytes], bytes]],
    explore: Callable[..., None],
    read: Callable[[bytes, str], Path],
    judge: Callable[..., None],
) -> None:
    """The same written otherwise must read as the same; what is damaged reads as it says, or is refused."""

    def check(data: st.DataObject) -> None:
        suffix = data.draw(st.sampled_from(list(SEPARATORS)))
        records = some_records(random.Random(data.draw(SEEDS)), some_text)
        raw, must = rendered(records, suffix).encode(), "any"
        original = plain(raw, suffix)
        assert original is not None
        if data.draw(st.booleans()):
            raw, must = data.draw(harmless(records, suffix)).encode(), "same"
        else:
            for change in data.draw(st.lists(damage, min_size=1, max_size=3)):
                raw = change(raw)
        judge(read_retrieval_set, read(raw, suffix), plain(raw, suffix), must, original)

    explore(st.data(), check, examples)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SEPARATORS)
@pytest.mark.parametrize("bases", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_every_fault(bases: int, suffix: str, read: Callable[[bytes, str], Path], judge: Callable[..., None]) -> None:
    for seed in range(bases):
        records = some_records(random.Random(seed), lambda chance: chance.choice(["naïve cat", "猫", "a dog"]))
        for lines, number in faults(records, suffix):
            path = read("".join(f"{line}\n" for line in lines).encode(errors="surrogatepass"), suffix)
            judge(read_retrieval_set, path, None, "refuse", place=(path.name, number))
