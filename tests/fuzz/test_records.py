"""Split files and settings, damaged: refused with the place named, or read as they say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError

from jasper_rag.errors import InputError
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.text.split_file import read_splits, write_splits

Values = dict[str, Any]

NUMBERS = range(6)
JUDGED = {f"é{number}": {f"d{number}": 1} for number in NUMBERS}
PAIRS = RetrievalSet(
    "set",
    tuple(Document(f"d{number}", f"text {number}") for number in NUMBERS),
    tuple(Query(f"é{number}", f"question {number}") for number in NUMBERS),
    {"all": JUDGED},
)
SPLITS = {"train": ["é0", "é1", "é2", "é3"], "dev": ["é4"], "test": ["é5"]}
RECORD: Values = {"format": "jasper-splits", "version": 1, "set": "set", "seed": 0, "splits": SPLITS}

NO_ENTRY: list[Any] = [None, "", 2, [], {}, "other", float("nan")]

DEFAULTS: Values = JasperConfig().model_dump()
OUT_OF_RANGE: dict[str, list[object]] = {
    "seed": [-1, 0.5, "seven", None, [1], float("nan")],
    "language": [5, None, ["english"]],
    "encoder.name": ["", None, 7],
    "encoder.max_seq_length": [2, -1, "long", 1.5],
    "encoder.dtype": ["int8", None, 32],
    "encoder.batch_size": [0, -3, 1e300, None],
    "encoder.trust_remote_code": ["perhaps", 2, None],
    "training.temperature": [0, -1, float("inf"), float("nan"), "hot", None, [0.1]],
    "training.batch_size": [0, 2.5],
    "training.steps": [0, "many"],
    "training.learning_rate_end": [0, -1e-3],
    "training.weight_decay": [-1, {"a": 1}],
    "guard.alpha_step": [0, 1.1, float("nan")],
    "guard.gate": ["perhaps", 3, None],
    "guard.gate_high": [0, 2],
    "guard.neighbours": [0, -1],
    **{section: [None, [], "word", 3] for section, value in DEFAULTS.items() if isinstance(value, dict)},
}


def plain_splits(raw: bytes) -> RetrievalSet | None:
    """The set under the splits of these bytes; None where they are no split file of it."""
    try:
        record = json.loads(raw.decode("utf-8-sig"))
        splits = record["splits"]
        names = [name for queries in splits.values() for name in queries]
        lists = all(isinstance(queries, list) and queries for queries in splits.values())
        fits = sorted(names) == sorted(JUDGED) and record["format"] == "jasper-splits" and record["version"] == 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    qrels = {split: {name: JUDGED[name] for name in queries} for split, queries in splits.items()} if fits else {}
    return RetrievalSet(PAIRS.name, PAIRS.documents, PAIRS.queries, qrels) if fits and lists else None


def bad_splits() -> Iterator[object]:
    yield from ([], 5, None, "splits", [RECORD])
    for key in ("format", "version", "splits"):
        yield {name: value for name, value in RECORD.items() if name != key}
        yield from (RECORD | {key: value} for value in NO_ENTRY)
    for split, queries in SPLITS.items():
        entries: list[Any] = [
            None,
            5,
            [],
            {},
            "é0",
            [*queries, "é0"],
            queries[1:],
            [*queries, queries[0]],
            [*queries, "é9"],
        ]
        entries += [[*queries, 4], [*queries, None], [queries], [*queries, "\ud800"], [name + " " for name in queries]]
        yield from (RECORD | {"splits": SPLITS | {split: entry}} for entry in entries)
        yield RECORD | {"splits": {name: entry for name, entry in SPLITS.items() if name != split}}


@pytest.mark.slow
def test_every_fault_of_a_split_file(written: Callable[..., Path], judge: Callable[..., None]) -> None:
    texts = [json.dumps(record) for record in bad_splits()]
    texts += ["", "{", "[" * 100_000, "9" * 5000, '{"format": "jasper-splits", ' + json.dumps(RECORD)[1:], "\x00"]
    for text in texts:
        path = written({"splits.json": text.encode()}) / "splits.json"
        judge(lambda path: read_splits(PAIRS, path), path, plain_splits(text.encode()), "refuse")


@pytest.mark.slow
@pytest.mark.parametrize("examples", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_split_files(
    examples: int,
    damage: SearchStrategy[Callable[[bytes], bytes]],
    explore: Callable[..., None],
    written: Callable[..., Path],
    judge: Callable[..., None],
) -> None:
    def check(data: st.DataObject) -> None:
        chance = random.Random(data.draw(st.integers(0, 999)))
        order = chance.sample(sorted(JUDGED), len(JUDGED))
        splits = {"train": order[:3], chance.choice(["dev", "held out \u2028"]): order[3:5], "test": order[5:]}
        record = dict(chance.sample(list((RECORD | {"splits": splits, "more": [None]}).items()), 6))
        raw = json.dumps(record, indent=chance.choice([None, 2]), ensure_ascii=chance.random() < 0.5).encode()
        raw, must = chance.choice([raw, b"\xef\xbb\xbf" + raw, raw.replace(b"\n", b"\r\n") + b"\n\n"]), "read"
        for change in data.draw(st.lists(damage, max_size=2)):
            raw, must = change(raw), "any"
        path = written({"splits.json": raw}) / "splits.json"
        judge(lambda path: read_splits(PAIRS, path), path, plain_splits(raw), must)

    explore(st.data(), check, examples)


def test_what_is_written_is_what_the_plain_reading_reads(tmp_path: Path) -> None:
    write_splits(read_splits(PAIRS, _split_file(tmp_path)), tmp_path / "again.json")
    assert plain_splits((tmp_path / "again.json").read_bytes()) == plain_splits(json.dumps(RECORD).encode())


def _split_file(folder: Path) -> Path:
    (folder / "splits.json").write_text(json.dumps(RECORD))
    return folder / "splits.json"


def changed(key: str, value: object) -> Values:
    """The defaults with one setting changed."""
    *section, last = key.split(".")
    if section:
        return DEFAULTS | {section[0]: DEFAULTS[section[0]] | {last: value}}
    return DEFAULTS | {last: value}


def misspelt(chance: random.Random, key: str) -> str:
    at = chance.randrange(len(key))
    edits = [key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], key[:at] + "x" + key[at:], key.upper(), f"{key} "]
    return chance.choice(edits)


def plain_settings(raw: bytes) -> JasperConfig | None:
    """The settings by the stock YAML loader; where they are none, with strings like 1e-4 taken for numbers."""
    try:
        values = yaml.safe_load(raw.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError):
        return None
    for reading in (values, numbers(values)):
        try:
            return JasperConfig.model_validate({} if reading is None else reading)
        except ValidationError:
            continue
    return None


def numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: numbers(entry) for key, entry in value.items()}
    try:
        return float(value.replace("_", "")) if isinstance(value, str) else value
    except ValueError:
        return value


@pytest.mark.slow
@pytest.mark.parametrize("key", OUT_OF_RANGE)
def test_a_value_out_of_range_is_named(key: str, written: Callable[..., Path]) -> None:
    for value in OUT_OF_RANGE[key]:
        path = written({"bad.yaml": yaml.safe_dump(changed(key, value)).encode()}) / "bad.yaml"
        with pytest.raises(InputError) as caught:
            load_config(path)
        assert (caught.value.path, caught.value.field) == (path, key)
        assert "got " in caught.value.problem
        assert caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_misspelt_key_is_named_with_the_nearest(rounds: int, written: Callable[..., Path]) -> None:
    sections = {name: value for name, value in DEFAULTS.items() if isinstance(value, dict)}
    keys = [*DEFAULTS, *(f"{section}.{key}" for section, values in sections.items() for key in values)]
    chance = random.Random(0)
    for key in keys * rounds:
        section, _, last = key.rpartition(".")
        wrong = misspelt(chance, last)
        values = {wrong: DEFAULTS[key]} if not section else {section: {wrong: DEFAULTS[section][last]}}
        path = written({"bad.yaml": yaml.safe_dump(values).encode()}) / "bad.yaml"
        with pytest.raises(InputError, match="unknown key") as caught:
            load_config(path)
        assert (caught.value.path, caught.value.field) == (path, ".".join(filter(None, [section, wrong])))
        assert wrong == last.upper() or f"Did you mean {last!r}?" in caught.value.remedy
        assert last in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("examples", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_settings(
    examples: int,
    damage: SearchStrategy[Callable[[bytes], bytes]],
    explore: Callable[..., None],
    written: Callable[..., Path],
    judge: Callable[..., None],
) -> None:
    def check(data: st.DataObject) -> None:
        chance = random.Random(data.draw(st.integers(0, 999)))
        values = dict(chance.sample(list(DEFAULTS.items()), chance.randrange(len(DEFAULTS) + 1)))
        raw = yaml.safe_dump(values, default_flow_style=chance.choice([None, False, True]), sort_keys=False).encode()
        raw, must = (
            chance.choice([raw, b"\xef\xbb\xbf" + raw, raw.replace(b"\n", b"\r\n"), b"# note\n---\n" + raw]),
            "read",
        )
        for change in data.draw(st.lists(damage, max_size=2)):
            raw, must = change(raw), "any"
        path = written({"settings.yaml": raw}) / "settings.yaml"
        judge(load_config, path, plain_settings(raw), must)

    explore(st.data(), check, examples)
