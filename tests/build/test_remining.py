from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from jasper_rag.atomic_moves import recover
from jasper_rag.build import negative_files
from jasper_rag.build.dataset_files import MINING
from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_files import write_negatives
from jasper_rag.build.negative_mining import Negatives
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.remining import negative_cosines, remine
from jasper_rag.build.split_negatives import mine_splits
from jasper_rag.models.guard import unit


def make() -> tuple[PairSet, dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    centroids = unit(generator.standard_normal((4, 8)).astype(np.float32))
    cluster = generator.integers(4, size=60)
    vectors = unit(centroids[cluster] + 0.4 * generator.standard_normal((60, 8)).astype(np.float32))
    pairs = np.stack([np.arange(40), generator.permutation(60)[:40]], axis=1)
    asked = unit(vectors[pairs[:, 1]] + 0.3 * generator.standard_normal((40, 8)).astype(np.float32))
    given = PairSet(asked, vectors, pairs, cluster, centroids, pairs, np.arange(60))
    return given, {"train": np.arange(25), "val": np.arange(25, 30)}


CONFIG = NegativeConfig(n_neg=4)


def test_cosines_are_those_of_the_vectors() -> None:
    given, _ = make()
    rows = np.random.default_rng(0).integers(60, size=(40, 3))
    expected = [[given.questions[q] @ given.sources[n] for n in rows[p]] for p, (q, _) in enumerate(given.pairs)]
    np.testing.assert_allclose(negative_cosines(given, rows), expected, atol=1e-6)


def test_changes_are_counted_by_tier_and_measured_where_the_questions_are_now() -> None:
    given, splits = make()
    splits |= {"test": np.arange(30, 40)}
    old = mine_splits(given, splits, CONFIG, 0)
    generator = np.random.default_rng(5)
    moved = replace(
        given, questions=unit(given.questions + 0.3 * generator.standard_normal((40, 8)).astype(np.float32))
    )
    found = remine(moved, splits, old.rows, old.tiers, CONFIG, 0)
    again = mine_splits(moved, splits, CONFIG, 0)
    np.testing.assert_array_equal(found.negatives.rows, again.rows)
    np.testing.assert_array_equal(found.negatives.scores, again.scores)
    assert sum(change.changed for change in found.changes) > 0
    for change in found.changes:
        new = found.negatives.tiers == change.tier
        fresh = [
            (pair, rank)
            for pair, rank in np.argwhere(new)
            if found.negatives.rows[pair, rank] not in old.rows[pair].tolist()
        ]
        assert (change.before, change.after) == (int((old.tiers == change.tier).sum()), int(new.sum()))
        assert change.changed == len(fresh)
        before = negative_cosines(moved, old.rows)[old.tiers == change.tier].mean()
        assert change.cosine_before == pytest.approx(before, abs=1e-6)
        assert change.cosine_after == pytest.approx(found.negatives.scores[new].mean(), abs=1e-6)
    loose = NegativeConfig(n_neg=4, margin=None)
    similar = remine(moved, splits, mine_splits(given, splits, loose, 0).rows, old.tiers, loose, 0).changes[2]
    assert similar.cosine_after is not None
    assert similar.cosine_before is not None
    assert similar.cosine_after > similar.cosine_before


def test_where_nothing_moves_nothing_changes() -> None:
    given, splits = make()
    splits |= {"test": np.arange(30, 40)}
    old = mine_splits(given, splits, CONFIG, 3)
    found = remine(given, splits, old.rows, old.tiers, CONFIG, 3)
    assert [change.changed for change in found.changes] == [0, 0, 0, 0]
    np.testing.assert_array_equal(found.negatives.rows, old.rows)


def test_pairs_in_no_split_keep_their_negatives() -> None:
    given, splits = make()
    rows, tiers = np.arange(160).reshape(40, 4) % 60, np.full((40, 4), 4)
    found = remine(given, splits, rows, tiers, CONFIG, 0)
    np.testing.assert_array_equal(found.negatives.rows[30:], rows[30:])
    np.testing.assert_array_equal(found.negatives.tiers[30:], tiers[30:])
    assert (found.negatives.rows[:30] != rows[:30]).any()


def test_a_tier_without_negatives_has_no_cosine() -> None:
    given, splits = make()
    rows, tiers = np.arange(160).reshape(40, 4) % 60, np.full((40, 4), 4)
    only_similar = NegativeConfig(n_neg=4, tier_proportions=(0, 0, 1, 0), margin=None)
    adjacent = remine(given, splits, rows, tiers, only_similar, 0).changes[1]
    assert (adjacent.before, adjacent.after, adjacent.cosine_before, adjacent.cosine_after) == (0, 0, None, None)


def some(seed: int) -> Negatives:
    generator = np.random.default_rng(seed)
    rows, tiers = generator.integers(60, size=(40, 4)), generator.integers(1, 5, size=(40, 4))
    return Negatives(rows, tiers, generator.random((40, 4)).astype(np.float32), 0, 0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_files_hold_what_was_mined(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    mined = some(0)
    write_negatives(mined, tmp_path, suffix)  # type: ignore[arg-type]
    names = {"config.json", f"hard_negatives{suffix}", f"negative_tiers{suffix}", "negative_scores.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names
    if suffix == ".pt":
        rows = torch.load(tmp_path / "hard_negatives.pt", weights_only=True)
        tiers = torch.load(tmp_path / "negative_tiers.pt", weights_only=True)
        assert isinstance(rows, torch.Tensor)
    else:
        rows = load_file(tmp_path / "hard_negatives.safetensors")["hard_negatives"]
        tiers = load_file(tmp_path / "negative_tiers.safetensors")["negative_tiers"]
    np.testing.assert_array_equal(rows, mined.rows)
    np.testing.assert_array_equal(tiers, mined.tiers)
    np.testing.assert_array_equal(load_file(tmp_path / "negative_scores.safetensors")["negative_scores"], mined.scores)


def mining_of(path: Path) -> str:
    with safe_open(path, framework="np") as file:
        return str(file.metadata()[MINING])


def test_files_of_one_mining_know_each_other(tmp_path: Path) -> None:
    names = ("hard_negatives", "negative_tiers", "negative_scores")
    found: list[str] = []
    for seed in (0, 1, 0):
        write_negatives(some(seed), tmp_path)
        marks = {mining_of(tmp_path / f"{name}.safetensors") for name in names}
        assert len(marks) == 1
        found += marks
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_all_files_are_new_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int) -> None:
    write_negatives(some(0), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = 0

    def fail(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > killed_after:
            raise OSError(28, "No space left on device")
        real(*arguments)

    real: Any = vars(negative_files)["save_file"]
    monkeypatch.setattr(negative_files, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        write_negatives(some(1), tmp_path)
    recover(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
