from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.readers.huggingface import read_hugging_face
from jasper_rag.text.records import Document, Query, RetrievalSet

datasets = pytest.importorskip("datasets")

Columns = Mapping[str, Sequence[Any]]
CORPUS: Columns = {"_id": ["d1"], "title": ["Cats"], "text": ["They purr."]}
QUERIES: Columns = {"_id": ["q1"], "text": ["who purrs?"]}
QRELS: Columns = {"query-id": ["q1"], "corpus-id": ["d1"], "score": [1]}
PETS = RetrievalSet(
    "pets", (Document("d1", "They purr.", "Cats"),), (Query("q1", "who purrs?"),), {"test": {"q1": {"d1": 1}}}
)
TRAIN: Columns = {"anchor": ["who?"], "positive": ["me"], "junk": [[1, 2]]}
DEV: Columns = {"anchor": ["whose?"], "positive": ["mine"], "junk": [[3]]}


def table(columns: Columns) -> Any:
    return datasets.Dataset.from_dict(dict(columns))


def tables(**splits: Columns) -> Any:
    return datasets.DatasetDict({split: table(columns) for split, columns in splits.items()})


@pytest.fixture(autouse=True)
def no_bars() -> None:
    datasets.disable_progress_bars()


def test_a_saved_dataset(tmp_path: Path) -> None:
    table({"id": [1, 2], "text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    found = read_retrieval_set(tmp_path / "saved")
    assert found == RetrievalSet("saved", (Document("1", "a"), Document("2", "b")), ())


@pytest.mark.slow
def test_saved_splits(tmp_path: Path) -> None:
    tables(train=TRAIN, validation=DEV).save_to_disk(tmp_path)
    found = read_retrieval_set(tmp_path, name="n")
    assert found.name == "n"
    assert found.qrels == {"train": {"q0": {"d0": 1}}, "dev": {"q1": {"d1": 1}}}
    mapped = read_retrieval_set(tmp_path, columns={"query": "positive", "document": "anchor"})
    assert mapped.queries[0].text == "me"
    tables(train=TRAIN, extra=DEV).save_to_disk(tmp_path / "other")
    assert list(read_retrieval_set(tmp_path / "other").qrels) == ["all"]


@pytest.mark.slow
def test_saved_tables(tmp_path: Path) -> None:
    for part, columns in {"corpus": CORPUS, "queries": QUERIES}.items():
        table(columns).save_to_disk(tmp_path / "pets" / part)
    tables(test=QRELS).save_to_disk(tmp_path / "pets/qrels")
    assert read_retrieval_set(tmp_path / "pets") == PETS
    tables(corpus=CORPUS, queries=QUERIES, test=QRELS).save_to_disk(tmp_path / "one/pets")
    assert read_retrieval_set(tmp_path / "one/pets") == PETS
    tables(corpus=CORPUS, queries=QUERIES).save_to_disk(tmp_path / "two")
    assert read_retrieval_set(tmp_path / "two").qrels == {}
    with pytest.raises(InputError, match="cannot be mapped"):
        read_retrieval_set(tmp_path / "two", columns={"document": "text"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A hub in the place of the real one: dataset -> configuration -> splits."""
    state: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda repository: list(state[repository]))
    monkeypatch.setattr(datasets, "load_dataset", lambda repository, part: state[repository][part])
    return state


@pytest.mark.slow
def test_a_name_on_the_hub(hub: dict[str, dict[str, Any]]) -> None:
    hub["me/pairs"] = {"default": tables(train=TRAIN)}
    found = read_retrieval_set("hf:me/pairs")
    assert (found.name, found.qrels) == ("pairs", {"all": {"q0": {"d0": 1}}})
    hub["me/pairs"]["large"] = tables(train=TRAIN, test=DEV)
    assert read_retrieval_set(Path("hf:me/pairs")).name == "pairs"
    large = read_retrieval_set("hf:me/pairs:large")
    assert (large.name, list(large.qrels)) == ("pairs-large", ["train", "test"])


@pytest.mark.parametrize("judged", ["default", "qrels"])
def test_three_tables_on_the_hub(hub: dict[str, dict[str, Any]], judged: str) -> None:
    hub["mteb/pets"] = {judged: tables(test=QRELS), "corpus": tables(test=CORPUS), "queries": tables(test=QUERIES)}
    assert read_retrieval_set("hf:mteb/pets") == PETS


def test_what_to_choose_from(hub: dict[str, dict[str, Any]]) -> None:
    hub["me/many"] = {"en": tables(train=TRAIN), "de": tables(train=TRAIN)}
    with pytest.raises(InputError, match="several configurations: en, de") as caught:
        read_retrieval_set("hf:me/many")
    assert "hf:me/many:en" in caught.value.remedy


def test_bad_rows_are_placed(hub: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    hub["me/pairs"] = {"default": tables(train={"text": ["x", " "]})}
    with pytest.raises(InputError, match=r"hf:me/pairs/train:2 \[text\]"):
        read_retrieval_set("hf:me/pairs")
    hub["me/pairs"] = {"default": tables(train={"text": []})}
    with pytest.raises(InputError, match="no row"):
        read_retrieval_set("hf:me/pairs")
    hub["me/pairs"] = {"default": tables(train={"a": [1]})}
    with pytest.raises(InputError, match="no column holds the document; the file has 'a'"):
        read_retrieval_set("hf:me/pairs")


def test_what_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_retrieval_set("hf:no-such-owner/no-such-set")
    assert "save_to_disk" in caught.value.remedy
    for name in ("hf:", "hf:me/pairs:", "hf::x"):
        with pytest.raises(InputError, match="names no dataset"):
            read_retrieval_set(name)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no dataset here"):
        read_hugging_face(tmp_path / "nothing")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        read_retrieval_set(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    table({"text": ["a", "b"]}).save_to_disk(tmp_path)
    (arrow,) = tmp_path.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        read_retrieval_set(tmp_path)
    (tmp_path / "state.json").write_text("[")
    with pytest.raises(InputError, match="cannot be read"):
        read_retrieval_set(tmp_path)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs the datasets library") as caught:
        read_hugging_face(tmp_path)
    assert 'pip install "jasper-rag[huggingface]"' in caught.value.remedy
