from __future__ import annotations

import numpy as np

from jasper_rag.build.split_leaks import EXAMPLES, split_leaks
from jasper_rag.models.guard import unit


def test_leaks_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(0)
    questions = unit(generator.standard_normal((60, 6)).astype(np.float32))
    questions[45:50] = unit(questions[:5] + 0.02 * generator.standard_normal((5, 6)).astype(np.float32))
    pairs = np.stack([np.arange(60), generator.integers(20, size=60)], axis=1)
    group = np.arange(20)
    group[7] = 2
    splits = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    texts = [f"question {number}" for number in range(60)]
    found = split_leaks(pairs, splits, group, questions, texts, near=0.9)
    assert list(found) == ["val", "test"]
    seen = set(group[pairs[:40, 1]].tolist())
    for split in ("val", "test"):
        rows = splits[split]
        sources = set(group[pairs[rows, 1]].tolist())
        cosines = questions[pairs[rows, 0]] @ questions[:40].T
        close = cosines.max(axis=1) >= 0.9
        report = found[split]
        assert (report["sources"], report["shared_sources"]) == (len(sources), len(sources & seen))
        assert (report["questions"], report["near_duplicate_questions"]) == (10, int(close.sum()))
        best = sorted(cosines.max(axis=1)[close].tolist(), reverse=True)[:EXAMPLES]
        np.testing.assert_allclose([example["cosine"] for example in report["examples"]], best, rtol=1e-6)
    first = found["val"]["examples"][0]
    asked, train = int(first["question"].split()[1]), int(first["train"].split()[1])
    assert (questions[asked] @ questions[:40].T).argmax() == train == asked - 45


def test_an_empty_split_has_no_leaks() -> None:
    questions = np.eye(2, dtype=np.float32)
    splits = {"train": np.array([0]), "val": np.array([1]), "test": np.array([], dtype=np.int64)}
    found = split_leaks(np.array([[0, 0], [1, 0]]), splits, np.arange(1), questions, ["a", "b"], 0.95)
    assert found["val"]["shared_sources"] == 1
    assert "test" not in found
