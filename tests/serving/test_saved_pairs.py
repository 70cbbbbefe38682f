"""Known questions kept with a model: which, on disk and back, and while the corpus changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.explain.explain_config import ExplainConfig
from jasper_rag.fitting.living_corpus import with_documents, without_documents
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.serving import saved_pairs
from jasper_rag.serving.saved_model import read_model, write_model
from jasper_rag.serving.saved_pairs import PAIR_VECTORS, PAIRS, SavedPairs, known_pairs_of, read_pairs, write_pairs
from jasper_rag.text.records import Document, Query


@pytest.fixture
def pairs(fitted: Jasper) -> SavedPairs:
    assert fitted.model.known_pairs is not None
    return fitted.model.known_pairs


def test_train_questions_are_kept_with_their_sources(fitted: Jasper, pairs: SavedPairs) -> None:
    assert fitted.record is not None
    train = fitted.record.embedded.splits["train"]
    assert [query.id for query in pairs.questions] == [name for name in train.ids if not name.startswith("pseudo:")]
    assert all(sources == (f"d{query.id[1:]}",) for query, sources in zip(pairs.questions, pairs.sources, strict=True))
    texts = dict(zip(train.ids, train.texts, strict=True))
    assert all(texts[query.id] == query.text for query in pairs.questions)
    assert pairs.vectors.dtype == np.float16


def test_a_known_question_is_nearest_to_itself(fitted: Jasper, pairs: SavedPairs) -> None:
    asked = fitted.encoder.encode([query.text for query in pairs.questions[:4]], "query")
    rows, cosines = pairs.nearest(asked, 3)
    assert rows[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(cosines[:, 0], 1, atol=2e-3)
    expected = np.sort(asked @ pairs.vectors.astype(np.float32).T, axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(cosines, np.minimum(expected, 1), atol=1e-5)
    assert cosines.max() <= 1
    assert pairs.nearest(asked, 10_000)[0].shape == (4, len(pairs))


def test_a_sample_is_even_and_the_same_again(fitted: Jasper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted.record is not None
    embedded, config = fitted.record.embedded, ExplainConfig()
    monkeypatch.setattr(saved_pairs, "MOST_KEPT", 20)
    first, again, other = (known_pairs_of(embedded, config, seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert (len(first), first.questions) == (20, again.questions)
    assert first.questions != other.questions
    places = [embedded.splits["train"].ids.index(query.id) for query in first.questions]
    assert places == sorted(places)
    np.testing.assert_array_equal(first.vectors, embedded.splits["train"].vectors[places].astype(np.float16))


def test_none_are_kept_where_none_are_wanted_or_real(fitted: Jasper) -> None:
    assert fitted.record is not None
    embedded = fitted.record.embedded
    assert known_pairs_of(embedded, ExplainConfig(known_pairs=False), 0) is None
    train = embedded.splits["train"]
    made = dataclasses.replace(train, ids=tuple(f"pseudo:{name}" for name in train.ids))
    assert known_pairs_of(dataclasses.replace(embedded, splits={"train": made}), ExplainConfig(), 0) is None
    assert JasperConfig().explain.known_pairs


def test_the_most_relevant_source_is_first(fitted: Jasper) -> None:
    assert fitted.record is not None
    embedded = fitted.record.embedded
    train = embedded.splits["train"]
    judgements = type(train.judgements).from_qrels(
        {train.ids[0]: {"d1": 1, "d2": 3, "d3": 0, "gone": 2}},
        train.ids,
        {document.id: row for row, document in enumerate(embedded.documents)},
    )
    judged = dataclasses.replace(train, judgements=judgements)
    found = known_pairs_of(dataclasses.replace(embedded, splits={"train": judged}), ExplainConfig(), 0)
    assert found is not None
    assert found.sources[0] == ("d2", "d1")


@pytest.mark.slow
def test_pairs_survive_a_model_folder(fitted: Jasper, pairs: SavedPairs, tmp_path: Path) -> None:
    write_model(fitted.model, tmp_path / "model")
    read = read_model(tmp_path / "model").known_pairs
    assert read is not None
    assert (read.questions, read.sources) == (pairs.questions, pairs.sources)
    np.testing.assert_array_equal(read.vectors, pairs.vectors)
    write_model(dataclasses.replace(fitted.model, known_pairs=None), tmp_path / "none")
    assert read_model(tmp_path / "none").known_pairs is None
    assert not (tmp_path / "none" / PAIRS).exists()
    (tmp_path / "model" / PAIRS).write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="checksum"):
        read_model(tmp_path / "model")


def test_a_folder_with_other_pairs_is_refused(pairs: SavedPairs, tmp_path: Path) -> None:
    assert write_pairs(None, tmp_path) == 0
    assert read_pairs(tmp_path, 0) is None
    count = write_pairs(pairs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {PAIRS, PAIR_VECTORS}
    with pytest.raises(InputError, match="known pairs, but") as caught:
        read_pairs(tmp_path, count + 1)
    assert "jasper fit" in caught.value.remedy


def test_a_removed_source_leaves_its_question(fitted: Jasper, pairs: SavedPairs) -> None:
    gone = pairs.sources[0][0]
    smaller = without_documents(fitted.model, [gone])
    assert smaller.known_pairs is not None
    assert smaller.known_pairs.questions == pairs.questions
    assert smaller.known_pairs.sources == ((), *pairs.sources[1:])
    assert pairs.sources[0] == (gone,)
    vectors = fitted.model.vectors.select(np.array([0]))
    grown = with_documents(smaller, [Document("new", "car and road")], vectors)
    assert grown.known_pairs is smaller.known_pairs
    bare = dataclasses.replace(fitted.model, known_pairs=None)
    assert without_documents(bare, [gone]).known_pairs is None


@pytest.mark.parametrize(("questions", "vectors"), [(0, (0, 4)), (2, (1, 4)), (1, (4,))])
def test_parts_must_fit(questions: int, vectors: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="as many questions, sources and vectors"):
        SavedPairs((Query("q", "t"),) * questions, ((),) * questions, np.zeros(vectors, dtype=np.float16))
