"""BEIR directories, damaged: refused with the place named, or read as a plain reading of the same bytes has it."""

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

Lines = dict[str, list[str]]
"""File -> its lines."""

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
SEEDS = st.integers(0, 9_999)
HEADER = "query-id\tcorpus-id\tscore"
DEEP, LONG = "[" * 100_000, "9" * 5000
NO_STRINGS = [True, 1.5, float("nan"), ["a"], {"a": "b"}, "x\ud800", "\udfff"]
BAD_FIELDS: dict[str, list[object]] = {
    "_id": [*NO_STRINGS, None, "", " \u2028", "a\tb", "a\nb"],
    "text": [*NO_STRINGS, None, 5, "", " \n\u3000"],
    "title": [*NO_STRINGS, 5],
}
BAD_LINES = ["[]", "5", "null", '"x"', "{", "NaN", DEEP, '{"_id": "x", "text": "y"} z', '{"_id": "x", "text": "a\tb"}',
             "{'_id': 'x', 'text': 'y'}", '{"_id": "x", "_id": "x", "text": "y"}', f'{{"_id": {LONG}, "text": "y"}}',
             '{"_id": "x", "text": "y"}{"_id": "z", "text": "y"}', '{"_id": "x", "text": "y",}']  # fmt: skip
BAD_SCORES = ["", "1.5", "yes", "1e3", "NaN", "0x1", "٣", "1 1", LONG, "--1", "null"]
BAD_QRELS = ["{q}", "{q}\t{d}", "{q} {d} 1", "{q}\t{d}\t1\t1", "x{q}\t{d}\t1", "{q}\tx{d}\t1", "\t{d}\t1", "{q}\t\t1",
             "{q},{d},1", '"{q}"\t"{d}"\t"1"', HEADER, *(f"{{q}}\t{{d}}\t{score}" for score in BAD_SCORES)]  # fmt: skip


def some_set(chance: random.Random, some_text: Callable[[random.Random], str]) -> Lines:
    """The lines of a valid directory."""
    mark = chance.choice(["", "é", "😀", "a b", "#", "-", "0"])
    documents = [f"{mark}d{number}" for number in range(chance.randint(2, 4))]
    ascii_only = chance.random() < 0.5
    extras: list[dict[str, Any]] = [{}, {"title": None}, {"title": "", "url": [1]}, {"title": "heading", "topic": "t"}]
    extra = chance.choice(extras)
    lines: Lines = {CORPUS: [], QUERIES: []}
    for identifier in documents:
        row = {"_id": identifier, **extra, "text": some_text(chance)}
        lines[CORPUS].append(json.dumps(row, ensure_ascii=ascii_only))
    for split in chance.choice([("test",), ("train", "dev"), ("train", "dev", "test"), ("all",)]):
        lines[f"qrels/{split}.tsv"] = [HEADER]
        for _ in range(chance.randint(1, 2)):
            query = f"{mark}q{len(lines[QUERIES])}"
            lines[QUERIES].append(json.dumps({"_id": query, "text": some_text(chance)}, ensure_ascii=ascii_only))
            others = chance.sample(documents[1:], chance.randrange(len(documents)))
            grades = {documents[0]: chance.randint(1, 2), **{other: chance.randrange(4) for other in others}}
            lines[f"qrels/{split}.tsv"] += [f"{query}\t{document}\t{grade}" for document, grade in grades.items()]
    return lines


def plain(files: dict[str, bytes], name: str) -> RetrievalSet | None:
    """What these bytes say, read in the most direct way; None: nothing that could be used."""
    try:
        documents = {row["_id"]: row for row in plain_rows(files[CORPUS])}
        queries = {row["_id"]: row for row in plain_rows(files[QUERIES])}
        qrels: dict[str, dict[str, dict[str, int]]] = {}
        for file in (file for file in files if file.startswith("qrels/") and "/." not in file):
            table = [line.split("\t") for line in files[file].decode("utf-8-sig").split("\n") if line.strip()]
            if [cell.strip().lower().replace("_", "-") for cell in table[0]] != HEADER.split("\t"):
                return None
            judged: dict[str, dict[str, int]] = {}
            for query, document, grade in ((cell.strip() for cell in line) for line in table[1:]):
                if query not in queries or document not in documents or not set(grade) <= set("+-0123456789"):
                    return None
                if judged.setdefault(query, {}).setdefault(document, max(0, int(grade))) != max(0, int(grade)):
                    return None
            if not any(grade > 0 for grades in judged.values() for grade in grades.values()):
                return None
            qrels[Path(file).stem] = judged
        corpus = tuple(Document(i, r["text"], r.get("title") or "", r.get("topic") or "") for i, r in documents.items())
        asked = tuple(Query(identifier, row["text"]) for identifier, row in queries.items())
        whole = all(d.content.strip() for d in corpus) and all(q.text.strip() for q in asked)
        twice = len([query for judged in qrels.values() for query in judged]) > len(set().union(*qrels.values()))
        return RetrievalSet(name, corpus, asked, qrels) if whole and not twice else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError):
        return None


def plain_rows(raw: bytes) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, ids as text."""
    rows = [json.loads(line) for line in raw.decode("utf-8-sig").split("\n") if line.strip(" \t\r")]
    for row in rows:
        number = isinstance(row["_id"], int) and not isinstance(row["_id"], bool)
        row["_id"] = str(row["_id"]) if number else row["_id"].strip()
        fields = [row["_id"], row["text"], row.get("title") or "", row.get("topic") or ""]
        "".join(fields).encode()
    identifiers = [row["_id"] for row in rows]
    if (
        not rows
        or not all(identifiers)
        or len(set(identifiers)) < len(rows)
        or set("\t\r\n") & set("".join(identifiers))
    ):
        raise ValueError
    return rows


def faults(lines: Lines) -> Iterator[tuple[Lines, str, int | None]]:
    """Lines with one fault each: them, the file and the line number to be reported (None: the whole file)."""
    for file, content in lines.items():
        judged = file.startswith("qrels")
        for short in ([], [""], ["", " "], [HEADER]) if judged else ([], [""], ["", "\t"]):
            yield lines | {file: short}, file, None
        for at in range(judged, len(content)):
            for bad in bad_judgements(content[at]) if judged else bad_records(content[at], file):
                yield lines | {file: [*content[:at], bad, *content[at + 1 :]]}, file, at + 1
            again = content[at][:-1] + str(int(content[at][-1]) + 1) if judged else content[at]
            yield lines | {file: [*content, again]}, file, len(content) + 1


def bad_records(line: str, file: str) -> Iterator[str]:
    yield from BAD_LINES
    yield from (line[:cut] for cut in range(1, len(line), 9))
    row = json.loads(line) | {"title": ""}
    for field, values in BAD_FIELDS.items():
        if field != "title" or file == CORPUS:
            yield from (json.dumps(row | {field: value}) for value in values)
    for field in ("_id", "text"):
        yield json.dumps({key: value for key, value in row.items() if key != field})


def bad_judgements(line: str) -> Iterator[str]:
    query, document, _ = line.split("\t")
    yield from (pattern.format(q=query, d=document) for pattern in BAD_QRELS)


@st.composite
def harmless(draw: st.DrawFn, lines: Lines) -> tuple[dict[str, bytes], bool]:
    """The same set in other bytes; and whether it must read as the same."""
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \n", "\n\t\r\n"]))
    files = {name: end.join(content) + draw(st.sampled_from(["", end])) for name, content in lines.items()}
    kind = draw(st.sampled_from(["bom", "keys", "blanks", "header", "repeat", "hidden", "number", "negative", "none"]))
    if kind == "bom":
        files = {name: "\ufeff" + content for name, content in files.items()}
    elif kind == "keys":
        rows = [json.loads(line) for line in lines[CORPUS]]
        files[CORPUS] = end.join(json.dumps(dict(reversed((row | {"x": [1e999, None]}).items()))) for row in rows)
    elif kind == "blanks":
        files[QUERIES] = end.join(f" \t{line}\t " for line in lines[QUERIES])
    elif kind == "hidden":
        files["qrels/._test.tsv"] = "\x00\x01"
    elif kind in ("header", "repeat", "negative"):
        name = next(name for name in files if name.startswith("qrels"))
        first, second, *rest = lines[name]
        query, document, _ = second.split("\t")
        first = first.upper().replace("-", "_") if kind == "header" else first
        new = [f"{query}\t{document}\t-1"] if kind == "negative" else [second] * (1 + (kind == "repeat"))
        files[name] = end.join([first, *new, *rest])
    elif kind == "number":
        files[QUERIES] += f'{end}{{"_id": 17, "text": "cat\\u0000"}}'
    return {name: content.encode("utf-8") for name, content in files.items()}, kind not in ("number", "negative")


def rendered(lines: Lines) -> dict[str, bytes]:
    return {name: "".join(f"{line}\n" for line in content).encode("utf-8") for name, content in lines.items()}


@pytest.fixture
def check(
    some_text: Callable[[random.Random], str],
    damage: SearchStrategy[Callable[[bytes], bytes]],
    written: Callable[..., Path],
    judge: Callable[..., None],
) -> Callable[[st.DataObject], None]:
    """One case: a fault is refused where it stands, the same in other bytes reads the same; of damage, either."""

    def one(data: st.DataObject) -> None:
        lines = some_set(random.Random(data.draw(SEEDS)), some_text)
        files, must, place = rendered(lines), "any", None
        kind = data.draw(st.sampled_from(["fault", "harmless", "bytes"]))
        if kind == "fault":
            changed, file, number = random.Random(data.draw(SEEDS)).choice(list(faults(lines)))
            files, must, place = rendered(changed), "refuse", (Path(file).name, number)
        elif kind == "harmless":
            files, same = data.draw(harmless(lines))
            must = "same" if same else "any"
        else:
            change = st.tuples(st.sampled_from(sorted(files)), damage)
            for name, changed_bytes in data.draw(st.lists(change, min_size=1, max_size=3)):
                files[name] = changed_bytes(files[name])
        path = written(files)
        original = plain(rendered(lines), path.name)
        assert original is not None
        judge(read_retrieval_set, path, plain(files, path.name), must, original, place)

    return one


@pytest.mark.slow
@pytest.mark.parametrize("examples", [12, pytest.param(4000, marks=pytest.mark.slow)])
def test_directories(examples: int, check: Callable[[st.DataObject], None], explore: Callable[..., None]) -> None:
    explore(st.data(), check, examples)


@pytest.mark.slow
def test_every_fault_of_one_directory(
    some_text: Callable[[random.Random], str], written: Callable[..., Path], judge: Callable[..., None]
) -> None:
    for lines, file, number in faults(some_set(random.Random(0), some_text)):
        judge(read_retrieval_set, written(rendered(lines)), None, "refuse", place=(Path(file).name, number))
