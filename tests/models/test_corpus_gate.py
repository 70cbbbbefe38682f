from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jasper_rag.models import corpus_gate
from jasper_rag.models.corpus_gate import CorpusGate, sampled_rows
from jasper_rag.models.guard import Vectors, unit

DIM = 8


def rows(count: int, seed: int) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32))


def gate(typical: float = 0.6, low: float = 0.1, high: float = 0.25) -> CorpusGate:
    return CorpusGate(rows(20, 9), typical, low, high, neighbours=3)


def corpus_with(share: float, count: int = 400) -> Vectors:
    """Documents of which a share lies on the bank, the others opposite to all of it."""
    bank = np.zeros((1, DIM), dtype=np.float32)
    bank[0, 0] = 1.0
    documents = np.repeat(-bank, count, axis=0)
    documents[: round(share * count)] = bank
    return documents


@pytest.mark.slow
def test_share_is_twice_the_share_of_typical_documents() -> None:
    documents = rows(300, 1)
    familiarity = [np.mean(sorted(gate().bank @ document)[-3:]) for document in documents]
    for typical in np.quantile(familiarity, [0.6, 0.8, 0.95]):
        expected = 2 * np.mean([value >= typical for value in familiarity])
        assert gate(float(typical)).share(documents) == pytest.approx(expected, abs=2 / 300)
    assert gate(-1.0).share(documents) == 1.0
    assert gate(1.1).share(documents) == 0.0


@pytest.mark.parametrize(
    ("on_the_bank", "openness"), [(0.0, 0.0), (0.05, 0.0), (0.0875, 0.5), (0.125, 1.0), (0.5, 1.0), (1.0, 1.0)]
)
def test_openness_is_a_ramp_of_the_share(on_the_bank: float, openness: float) -> None:
    ramp = CorpusGate(corpus_with(1.0, 1), 0.5, 0.1, 0.25)
    assert ramp.openness(corpus_with(on_the_bank)) == pytest.approx(openness)


def test_of_a_large_corpus_a_fixed_sample_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(corpus_gate, "_SAMPLE", 150)
    chosen = sampled_rows(1000)
    assert len(set(chosen.tolist())) == 150
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, sampled_rows(1000))
    np.testing.assert_array_equal(sampled_rows(150), np.arange(150))
    documents = rows(1000, 2)
    np.save(tmp_path / "documents.npy", documents)
    mapped = np.load(tmp_path / "documents.npy", mmap_mode="r")
    assert gate(0.5).share(mapped) == gate(0.5).share(documents[chosen])


def test_impossible_gates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low < high, got 0\.3 and 0\.3"):
        gate(low=0.3, high=0.3)
    with pytest.raises(ValueError, match="got 0 and 5"):
        CorpusGate(rows(0, 0), 0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="got 3 and 0"):
        CorpusGate(rows(3, 0), 0.5, 0.0, 1.0, neighbours=0)
