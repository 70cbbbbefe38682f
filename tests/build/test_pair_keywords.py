from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import BuildPlan, plan_build
from jasper_rag.build.pair_keywords import KeywordLinks, dataset_keywords, keyword_vectors
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.encoder_identity import EncoderIdentity, Identified
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.text.keywords import KeywordVocabulary
from jasper_rag.text.records import RetrievalSet


def planned(given: BuildInput, cluster_file: Path | None = None, **settings: Any) -> BuildPlan:
    return plan_build(given, BuildConfig.model_validate({"negatives": {"n_neg": 4}, **settings}), cluster_file)


def words(links: KeywordLinks, row: int, vocabulary: KeywordVocabulary) -> list[str]:
    return [vocabulary.keywords[word] for word in links.values[links.offsets[row] : links.offsets[row + 1]]]


def test_links_are_flat_lists_with_the_weights_of_the_vocabulary() -> None:
    vocabulary = KeywordVocabulary(("a", "b", "c"), (1.0, 2.0, 3.0))
    links = KeywordLinks.of([(2, 0), (), (1,)], vocabulary)
    assert (links.values.tolist(), links.offsets.tolist(), links.weights.tolist()) == (
        [2, 0, 1],
        [0, 2, 2, 3],
        [3, 1, 2],
    )
    none = KeywordLinks.of([(), ()], KeywordVocabulary((), ()))
    assert (none.values.tolist(), none.offsets.tolist(), none.weights.tolist()) == ([], [0, 0, 0], [])
    assert none.values.dtype == none.offsets.dtype == np.int64
    assert none.weights.dtype == np.float32


def test_given_keywords_count_whatever_their_case(library: RetrievalSet) -> None:
    given = {
        ("sea-0-0", "sea-0"): ("Ship", "HARBOUR", "ship"),
        ("sea-0-1", "sea-0"): ("ship",),
        ("music-0-0", "music-0"): ("violin", "piano", "opera"),
    }
    plan = planned(BuildInput(library, keywords=given), keywords_per_pair=2)
    found = dataset_keywords(plan)
    assert sorted(word.lower() for word in found.vocabulary.keywords) == ["harbour", "opera", "piano", "ship", "violin"]
    rows = {key: row for row, key in enumerate(plan.table.keys)}
    one = [word.lower() for word in words(found.of_pairs, rows["sea-0-0", "sea-0"], found.vocabulary)]
    assert one == ["ship", "harbour"]
    assert len(words(found.of_pairs, rows["music-0-0", "music-0"], found.vocabulary)) == 2
    assert words(found.of_pairs, rows["kitchen-0-0", "kitchen-0"], found.vocabulary) == []
    # A question has those of its own words, whether or not its pairs were given any.
    asked = [question.id for question in plan.table.questions].index("sea-0-0")
    assert {word.lower() for word in words(found.of_questions, asked, found.vocabulary)} == {"ship", "harbour"}


def test_without_given_ones_they_are_found_in_the_texts(library: RetrievalSet) -> None:
    plan = planned(BuildInput(library), keywords_per_pair=3, keywords_per_question=1)
    found = dataset_keywords(plan)
    assert len(found.of_pairs.offsets) == len(plan.table.pairs) + 1
    assert np.diff(found.of_pairs.offsets).max() == 3
    assert np.diff(found.of_questions.offsets).max() == 1
    for row, (question, source) in enumerate(plan.table.pairs):
        text = f"{plan.table.question_texts[question]} {plan.table.source_texts[source]}"
        assert all(part in text for word in words(found.of_pairs, row, found.vocabulary) for part in word.split())


def test_the_keywords_of_a_cluster_file_are_the_vocabulary(library: RetrievalSet, tmp_path: Path) -> None:
    content = {"metadata": {"n_clusters": 1}, "cluster_assignments": {"Ship": 0, "rose": 0}, "centroids": [[1.0, 0.0]]}
    path = tmp_path / "clusters.json"
    path.write_text(json.dumps(content))
    plan = planned(BuildInput(library), path, clustering="file")
    found = dataset_keywords(plan)
    assert found.vocabulary.keywords == ("rose", "ship")
    linked = {plan.table.keys[row][0] for row in np.flatnonzero(np.diff(found.of_pairs.offsets))}
    assert "sea-0-0" in linked
    assert not any(query.startswith("music") for query in linked)


class Recording:
    """Remembers what it is asked to encode."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.asked = encoder, list[tuple[str, Role]]()

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        self.asked += [(text, role) for text in texts]
        return self.encoder.encode(texts, role)

    def identity(self) -> EncoderIdentity:
        assert isinstance(self.encoder, Identified)
        return self.encoder.identity()


@pytest.mark.parametrize("known", [0, 1, 2])
def test_vectors_come_from_the_file_or_are_embedded_as_questions(
    word_encoder: Encoder, store: EmbeddingStore, known: int
) -> None:
    recording = Recording(word_encoder)
    vocabulary = KeywordVocabulary(("Ship", "Stra\u00dfe rose"), (1.0, 1.0))
    given = dict(
        list({"ship": np.eye(24, dtype=np.float32)[0], "stra\u00dfe rose": np.eye(24, dtype=np.float32)[1]}.items())[
            :known
        ]
    )
    found = keyword_vectors(vocabulary, given, recording, store, 24)
    assert found.shape == (2, 24)
    assert recording.asked == [(word, "query") for word in sorted(vocabulary.keywords[known:], key=len, reverse=True)]
    expected = word_encoder.encode(list(vocabulary.keywords), "query")
    expected[:known] = np.eye(24)[:known]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_dataset_may_have_no_keyword(word_encoder: Encoder, store: EmbeddingStore) -> None:
    recording = Recording(word_encoder)
    assert keyword_vectors(KeywordVocabulary((), ()), {}, recording, store, 24).shape == (0, 24)
    assert recording.asked == []
