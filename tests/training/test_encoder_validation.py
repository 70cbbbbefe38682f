from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.pair_files import TrainingExample
from jasper_rag.training.encoder_validation import mean_ndcg, validation_set

TRAIN = [TrainingExample("t1", "a"), TrainingExample("v1", "b"), TrainingExample("t2", "c", "d")]
VAL = [TrainingExample("v1", "x", "y"), TrainingExample("v2", "a")]


def test_the_corpus_is_what_is_known() -> None:
    found = validation_set(VAL, TRAIN, 0)
    assert found.table.queries == ("v1", "v2")
    # Positives and negatives of val, then the positives of train; its negatives are not among them.
    assert found.corpus == ("x", "y", "a", "b", "c")
    # What train knows of the same query counts too.
    assert sorted(found.judgements.positives(0).tolist()) == [0, 3]
    assert found.judgements.positives(1).tolist() == [2]


def test_of_many_distractors_some_are_drawn() -> None:
    train = [TrainingExample(f"q{row}", f"d{row}") for row in range(50)]
    one, again, other = (validation_set(VAL, train, seed, distractors=10) for seed in (0, 0, 1))
    assert len(one.corpus) == 13
    assert one.corpus == again.corpus
    assert one.corpus != other.corpus


def test_search_is_by_distance() -> None:
    generator = np.random.default_rng(0)
    queries, documents = generator.standard_normal((7, 5)), generator.standard_normal((30, 5)) * 3
    answers = generator.integers(0, 30, size=7)
    judgements = Judgements(np.arange(8), answers, np.ones(7, dtype=np.int64))
    distances = np.linalg.norm(queries[:, None] - documents, axis=2)
    ranks = [int((row < row[answer]).sum()) + 1 for row, answer in zip(distances, answers, strict=True)]
    expected = np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks])
    assert mean_ndcg(queries, documents, judgements) == pytest.approx(expected)
