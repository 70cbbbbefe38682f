from __future__ import annotations

import pytest

from jasper_rag.evaluation.verdict import verdict


def sentence(jasper: float, p_value: float | None, alpha: float = 0.6) -> str:
    systems: dict[str, dict[str, float | None]] = {
        "plain": {"ndcg@10": 0.5684, "p_value": None},
        "jasper": {"ndcg@10": jasper, "p_value": p_value},
        "hybrid": {"ndcg@10": 0.7},
    }
    return verdict(systems, alpha, 1234)


def test_a_gain() -> None:
    assert sentence(0.6412, 0.0001) == (
        "JASPER retrieves better than the question alone: from 0.568 to 0.641 nDCG@10 over 1,234 questions "
        "(p = 0.0001); search with BM25 beside it reaches 0.700."
    )


def test_a_foreign_corpus() -> None:
    systems = {key: {"ndcg@10": 0.5, "p_value": 1.0} for key in ("plain", "jasper", "hybrid")}
    assert verdict(systems, 0.6, 10, openness=0.0) == (
        "The guard ships the plain encoder (0.500 nDCG@10 over 10 questions): these documents are unlike those "
        "trained on; search with BM25 beside it reaches 0.500."
    )


def test_a_loss_is_said_aloud() -> None:
    assert sentence(0.5, 0.01).startswith("JASPER retrieves WORSE than the question alone: from 0.568 to 0.500")


@pytest.mark.parametrize(("p_value", "shown"), [(0.05, " (p = 0.05)"), (0.7512, " (p = 0.75)"), (None, "")])
def test_chance(p_value: float | None, shown: str) -> None:
    assert sentence(0.58, p_value) == (
        "JASPER moves retrieval from 0.568 to 0.580 nDCG@10 over 1,234 questions, a difference that may be "
        f"chance{shown}; search with BM25 beside it reaches 0.700."
    )


@pytest.mark.parametrize("p_value", [1.0, 0.0001])
def test_a_guard_that_ships_the_plain_encoder(p_value: float) -> None:
    assert sentence(0.568, p_value, alpha=0.0) == (
        "The guard ships the plain encoder (0.568 nDCG@10 over 1,234 questions): training gave no sure gain on dev; "
        "search with BM25 beside it reaches 0.700."
    )


def test_a_missing_figure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'hybrid' has no nDCG@10"):
        verdict({"plain": {"ndcg@10": 0.1}, "jasper": {"ndcg@10": 0.1}, "hybrid": {"ndcg@10": None}}, 0.5, 1)


def test_without_bm25_nothing_is_said_of_it() -> None:
    systems: dict[str, dict[str, float | None]] = {
        "plain": {"ndcg@10": 0.5, "p_value": None},
        "jasper": {"ndcg@10": 0.6, "p_value": 0.01},
    }
    assert verdict(systems, 0.5, 9) == (
        "JASPER retrieves better than the question alone: from 0.500 to 0.600 nDCG@10 over 9 questions (p = 0.01)."
    )
    assert verdict(systems, 0.0, 9).endswith("training gave no sure gain on dev.")
    systems["jasper"]["p_value"] = 0.5
    assert verdict(systems, 0.5, 9).endswith("a difference that may be chance (p = 0.5).")
