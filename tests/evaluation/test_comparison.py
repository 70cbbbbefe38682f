from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from numpy.typing import NDArray

from jasper_rag.atomic_files import write_json
from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.evaluation.comparison import (
    DEPTH,
    Comparison,
    FusionWeights,
    QueryVectors,
    choose_fusion_weights,
    compare,
)
from jasper_rag.evaluation.systems import SYSTEM_NAMES
from jasper_rag.evaluation.verdict import verdict
from jasper_rag.metrics.significance import bootstrap_interval, paired_randomisation
from jasper_rag.models.guard import unit
from jasper_rag.retrieval.fusion import WEIGHT_GRID
from jasper_rag.retrieval.lexical import LexicalIndex

WEIGHTS = FusionWeights(plain=0.35, jasper=0.6)
SEED = 3

Run = dict[int, float]
"""Document row -> score, for one query."""


def lexical_of(given: EmbeddedSet) -> LexicalIndex:
    return LexicalIndex.build([document.content for document in given.documents], "none")


def vectors_of(given: EmbeddedSet, split: str) -> QueryVectors:
    plain = given.splits[split].vectors
    noise = np.random.default_rng(4).standard_normal((3, *plain.shape)) * 0.2
    ungated, shipped, adapter = (unit((plain + part).astype(np.float32)) for part in noise)
    return QueryVectors(plain, ungated, shipped, adapter)


def compared(given: EmbeddedSet, vectors: QueryVectors, **changes: Any) -> Comparison:
    arguments: dict[str, Any] = {
        "dataset": given.name,
        "split": "test",
        "queries": given.splits["test"],
        "vectors": vectors,
        "documents": given.vectors,
        "document_ids": [document.id for document in given.documents],
        "lexical": lexical_of(given),
        "weights": WEIGHTS,
        "alpha": 0.5,
        "train_seconds": {"jasper": 1.5, "linear_adapter": 2.5},
        "seed": SEED,
    }
    return compare(**{**arguments, **changes})


@pytest.fixture(scope="module")
def vectors(worded: EmbeddedSet) -> QueryVectors:
    return vectors_of(worded, "test")


@pytest.fixture(scope="module")
def comparison(worded: EmbeddedSet, vectors: QueryVectors) -> Comparison:
    return compared(worded, vectors)


def ranking(run: Run) -> list[int]:
    """Best first as the searches order ties: by row."""
    return sorted(run, key=lambda row: (-run[row], row))[:DEPTH]


def reciprocal_ranks(*runs: Run) -> Run:
    points: Run = {}
    for run in runs:
        for rank, row in enumerate(ranking(run), start=1):
            points[row] = points.get(row, 0.0) + 1 / (60 + rank)
    return {row: float(np.float32(value)) for row, value in points.items()}


def mixed(dense: NDArray[np.float32], words: NDArray[np.float32], weight: float) -> Run:
    def standard(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        exact = scores.astype(np.float64)
        normalised: NDArray[np.float64] = (exact - exact.mean()) / (exact.std() or 1.0)
        return normalised

    return dict(enumerate(((1 - weight) * standard(dense) + weight * standard(words)).tolist()))


def expected_runs(given: EmbeddedSet, vectors: QueryVectors, split: str = "test") -> dict[str, list[Run]]:
    """Every system's scores, one query at a time, nothing shared with the product but BM25's own scores."""
    runs: dict[str, list[Run]] = {key: [] for key in SYSTEM_NAMES}
    words = lexical_of(given).scores(given.splits[split].texts)
    for row in range(len(given.splits[split])):
        dense = {
            name: given.vectors.vectors @ getattr(vectors, name)[row]
            for name in ("plain", "ungated", "shipped", "adapter")
        }
        plain, shipped = (dict(enumerate(dense[name].tolist())) for name in ("plain", "shipped"))
        bm25 = {document: float(score) for document, score in enumerate(words[row]) if score > 0}
        runs["plain"].append(plain)
        runs["bm25"].append(bm25)
        runs["rrf"].append(reciprocal_ranks(plain, bm25))
        runs["fusion"].append(mixed(dense["plain"], words[row], WEIGHTS.plain))
        runs["linear_adapter"].append(dict(enumerate(dense["adapter"].tolist())))
        runs["jasper_ungated"].append(dict(enumerate(dense["ungated"].tolist())))
        runs["jasper"].append(shipped)
        runs["rrf_jasper"].append(reciprocal_ranks(shipped, bm25))
        runs["hybrid"].append(mixed(dense["shipped"], words[row], WEIGHTS.jasper))
    return runs


def trec(runs: list[Run], given: EmbeddedSet, split: str = "test") -> dict[str, NDArray[np.float64]]:
    """The three metrics of every query by trec_eval's own code."""
    queries = given.splits[split]
    ids = [document.id for document in given.documents]
    qrels: dict[str, dict[str, int]] = {}
    for row, query in enumerate(queries.ids):
        entries = slice(queries.judgements.indptr[row], queries.judgements.indptr[row + 1])
        judged, grades = queries.judgements.documents[entries], queries.judgements.grades[entries]
        qrels[query] = {ids[document]: int(grade) for document, grade in zip(judged, grades, strict=True)}
    run = {
        query: {ids[document]: scores[document] for document in scores}
        for query, scores in zip(queries.ids, runs, strict=True)
    }
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.10", "recip_rank"}).evaluate(run)
    ranks = np.array([found[query]["recip_rank"] for query in queries.ids])
    return {
        "ndcg@10": np.array([found[query]["ndcg_cut_10"] for query in queries.ids]),
        "recall@10": np.array([found[query]["recall_10"] for query in queries.ids]),
        "mrr@10": np.where(ranks > 1 / 10.5, ranks, 0.0),
    }


@pytest.mark.slow
def test_every_system_scores_what_trec_eval_says(
    worded: EmbeddedSet, vectors: QueryVectors, comparison: Comparison
) -> None:
    assert list(comparison.runs) == list(SYSTEM_NAMES)
    means = set()
    for key, runs in expected_runs(worded, vectors).items():
        expected = trec(runs, worded)
        assert list(comparison.runs[key].values) == list(expected)
        for metric, values in expected.items():
            np.testing.assert_allclose(
                comparison.runs[key].values[metric], values, atol=1e-9, err_msg=f"{key} {metric}"
            )
        means.add(round(float(expected["ndcg@10"].mean()), 6))
    assert len(means) == 9  # no system was mistaken for another


@pytest.mark.slow
def test_runs_hold_scored_documents_best_first(
    worded: EmbeddedSet, vectors: QueryVectors, comparison: Comparison
) -> None:
    for key, runs in expected_runs(worded, vectors).items():
        found = comparison.runs[key]
        assert found.scores.shape == found.rows.shape
        for expected, scores, rows in zip(runs, found.scores, found.rows, strict=True):
            listed = rows[rows >= 0]
            assert len(listed) == len(expected) == len(set(listed.tolist()))
            assert [expected[row] for row in listed] == pytest.approx(scores[rows >= 0].tolist(), abs=1e-4)
            assert (np.diff(scores[rows >= 0]) <= 0).all()
            assert (scores[rows < 0] == -np.inf).all()


def test_metrics_are_exactly_those_documented(worded: EmbeddedSet, comparison: Comparison) -> None:
    metrics = comparison.to_metrics()
    assert list(metrics) == [
        "dataset", "split", "seed", "questions", "documents", "systems",
        "alpha", "corpus_openness", "fusion_weight", "fusion_weight_plain", "p_value", "unseen_sources", "verdict",
    ]  # fmt: skip
    assert (metrics["dataset"], metrics["split"], metrics["seed"]) == ("worded", "test", SEED)
    assert (metrics["questions"], metrics["documents"]) == (24, 60)
    assert (metrics["alpha"], metrics["fusion_weight"], metrics["fusion_weight_plain"]) == (0.5, 0.6, 0.35)
    assert list(metrics["systems"]) == [
        "plain", "bm25", "rrf", "fusion", "linear_adapter", "jasper_ungated", "jasper", "rrf_jasper", "hybrid",
    ]  # fmt: skip
    plain = comparison.runs["plain"].values["ndcg@10"]
    for key, figures in metrics["systems"].items():
        values = comparison.runs[key].values
        interval = bootstrap_interval(values["ndcg@10"], SEED)
        assert figures == {
            "ndcg@10": values["ndcg@10"].mean(),
            "recall@10": values["recall@10"].mean(),
            "mrr@10": values["mrr@10"].mean(),
            "train_seconds": {"jasper": 1.5, "linear_adapter": 2.5}.get(key, 0.0),
            "ndcg@10_low": interval[0],
            "ndcg@10_high": interval[1],
            "p_value": None if key == "plain" else paired_randomisation(values["ndcg@10"], plain, SEED),
        }
    assert metrics["p_value"] == metrics["systems"]["jasper"]["p_value"]
    assert metrics["verdict"] == verdict(metrics["systems"], 0.5, 24)


def test_metrics_are_strict_json(comparison: Comparison, tmp_path: Path) -> None:
    metrics = comparison.to_metrics()
    write_json(tmp_path / "metrics.json", metrics)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics == comparison.to_metrics()


@pytest.mark.slow
def test_without_an_adapter_the_others_are_the_same(
    worded: EmbeddedSet, vectors: QueryVectors, comparison: Comparison
) -> None:
    without = compared(worded, QueryVectors(vectors.plain, vectors.ungated, vectors.shipped))
    full = comparison.to_metrics()["systems"]
    del full["linear_adapter"]
    assert without.to_metrics()["systems"] == full


def test_shipping_the_question_is_no_difference_at_all(worded: EmbeddedSet, vectors: QueryVectors) -> None:
    systems = compared(worded, QueryVectors(vectors.plain, vectors.plain, vectors.plain)).to_metrics()["systems"]
    assert systems["jasper"] == systems["jasper_ungated"] | {"train_seconds": 1.5}
    assert systems["jasper"]["p_value"] == 1.0
    assert systems["rrf_jasper"]["ndcg@10"] == systems["rrf"]["ndcg@10"]


@pytest.mark.slow
def test_questions_about_unseen_sources_are_shown_apart(worded: EmbeddedSet, vectors: QueryVectors) -> None:
    judgements = worded.splits["test"].judgements
    train_sources = np.unique(judgements.documents)[::3]
    found = compared(worded, vectors, train_sources=train_sources)
    unseen = [not set(judgements.positives(row).tolist()) & set(train_sources.tolist()) for row in range(24)]
    assert found.unseen.tolist() == unseen
    assert 0 < sum(unseen) < 24
    metrics = found.to_metrics()
    assert metrics["unseen_sources"]["questions"] == sum(unseen)
    assert list(metrics["unseen_sources"]["ndcg@10"]) == list(SYSTEM_NAMES)
    for key, value in metrics["unseen_sources"]["ndcg@10"].items():
        assert value == pytest.approx(found.runs[key].values["ndcg@10"][unseen].mean())


@pytest.mark.slow
def test_all_sources_unseen_or_none(worded: EmbeddedSet, vectors: QueryVectors, comparison: Comparison) -> None:
    assert comparison.unseen.all()
    everything = compared(worded, vectors, train_sources=np.arange(60))
    assert everything.to_metrics()["unseen_sources"] == {"questions": 0, "ndcg@10": {}}


def test_a_document_outside_the_corpus_was_not_seen(worded: EmbeddedSet, vectors: QueryVectors) -> None:
    queries = worded.splits["test"]
    outside = replace(queries.judgements, documents=np.where(queries.judgements.documents == 7, 7, -2))
    found = compared(worded, vectors, queries=replace(queries, judgements=outside), train_sources=np.array([-2, -2]))
    assert found.unseen.all()


@pytest.mark.slow
def test_fusion_weights_are_the_best_on_dev(worded: EmbeddedSet) -> None:
    dev = worded.splits["dev"]
    vectors = vectors_of(worded, "dev")
    words = lexical_of(worded).scores(dev.texts)

    def curve(queries: NDArray[np.float32]) -> Mapping[float, float]:
        found = {}
        for weight in WEIGHT_GRID[:-1]:  # BM25 alone has ties, which trec_eval orders by id
            pairs = zip(queries, words, strict=True)
            scores = [mixed(worded.vectors.vectors @ query, word, weight) for query, word in pairs]
            found[weight] = trec(scores, worded, "dev")["ndcg@10"].mean()
        return found

    weights = choose_fusion_weights(dev, vectors, worded.vectors, lexical_of(worded))
    for weight, values in ((weights.plain, curve(vectors.plain)), (weights.jasper, curve(vectors.shipped))):
        assert 0 < weight < 1
        assert values[weight] == pytest.approx(max(values.values()))
    assert curve(vectors.plain)[weights.jasper] < max(curve(vectors.plain).values())
    assert curve(vectors.shipped)[weights.plain] < max(curve(vectors.shipped).values())


def test_without_text_the_other_systems_are_the_same(
    worded: EmbeddedSet, vectors: QueryVectors, comparison: Comparison
) -> None:
    weights = choose_fusion_weights(worded.splits["dev"], vectors_of(worded, "dev"), worded.vectors, None)
    assert weights == FusionWeights(0.0, 0.0)
    without = compared(worded, vectors, lexical=None, weights=weights)
    full, metrics = comparison.to_metrics(), without.to_metrics()
    assert (comparison.default, without.default) == ("hybrid", "jasper")
    dense = ["plain", "linear_adapter", "jasper_ungated", "jasper"]
    assert list(metrics["systems"].items()) == [(key, full["systems"][key]) for key in dense]
    assert "BM25" not in metrics["verdict"]


def test_documents_of_several_passages_score_as_their_best(worded: EmbeddedSet, vectors: QueryVectors) -> None:
    own = worded.vectors.vectors
    pairs = np.stack([-own, own], axis=1).reshape(2 * len(own), -1)
    places = Passages(np.arange(0, len(pairs), 2), np.zeros((len(pairs), 2), dtype=np.int64))
    found = compared(worded, vectors, documents=DocumentVectors(pairs, places))
    assert found.documents == len(own)
    expected = trec([dict(enumerate(np.abs(own @ query).tolist())) for query in vectors.plain], worded)
    for metric, values in expected.items():
        np.testing.assert_allclose(found.runs["plain"].values[metric], values, atol=1e-9)
