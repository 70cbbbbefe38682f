from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.build.negative_candidates import Draws, SourcePool, require_candidates
from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_mining import ADJACENT, IN_CLUSTER, RANDOM, SIMILAR, Negatives, mine_negatives
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.similar_sources import similar_sources
from jasper_rag.errors import InputError
from jasper_rag.models.guard import unit

CLUSTERS, DIM = 5, 8


def pair_set(seed: int = 0, sources: int = 120, questions: int = 40) -> PairSet:
    """Sources around five centroids; every question has two of them, sources 0 and 1 have one text."""
    generator = np.random.default_rng(seed)
    centroids = unit(generator.standard_normal((CLUSTERS, DIM)).astype(np.float32))
    cluster = np.sort(generator.integers(CLUSTERS, size=sources))
    vectors = unit(centroids[cluster] + 0.5 * generator.standard_normal((sources, DIM)).astype(np.float32))
    answers = generator.integers(sources, size=(questions, 2))
    pairs = np.unique(np.stack([np.repeat(np.arange(questions), 2), answers.ravel()], axis=1), axis=0)
    asked = unit(vectors[answers[:, 0]] + 0.3 * generator.standard_normal((questions, DIM)).astype(np.float32))
    group = np.arange(sources)
    group[1] = 0
    return PairSet(asked, vectors, pairs, cluster, centroids, pairs, group)


def mine(given: PairSet, config: NegativeConfig, seed: int = 0) -> Negatives:
    return mine_negatives(given, np.ones(len(given.sources), dtype=bool), config, seed)


def check(given: PairSet, found: Negatives, allowed: np.ndarray, config: NegativeConfig) -> None:
    positives = {(int(q), int(given.text_group[s])) for q, s in given.positives}
    assert found.rows.shape == found.tiers.shape == found.scores.shape == (len(given.pairs), config.n_neg)
    for row, (question, source) in enumerate(given.pairs):
        negatives = found.rows[row]
        assert len(set(negatives.tolist())) == config.n_neg
        assert allowed[negatives].all()
        assert not any((int(question), int(given.text_group[n])) in positives for n in negatives)
        assert (given.text_group[negatives] == negatives).all()
        scores = given.sources[negatives] @ given.questions[question]
        np.testing.assert_allclose(found.scores[row], scores, atol=1e-6)
        own = given.source_cluster[source]
        assert (given.source_cluster[negatives][found.tiers[row] == IN_CLUSTER] == own).all()
        assert (given.source_cluster[negatives][found.tiers[row] != IN_CLUSTER] != own).all()
        assert (np.diff(found.tiers[row]) >= 0).all()


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_no_negative_is_a_positive_and_none_stands_twice(seed: int, n_neg: int) -> None:
    given = pair_set(seed)
    config = NegativeConfig(n_neg=n_neg)
    check(given, mine(given, config, seed), np.ones(120, dtype=bool), config)


def test_tiers_have_their_shares_and_meaning() -> None:
    given = pair_set()
    config = NegativeConfig(n_neg=8, tier_proportions=(3, 2, 1, 2), adjacent_k=2, margin=None)
    found = mine(given, config)
    assert found.moved == 0
    assert found.inside_margin == 0
    assert (np.stack([(found.tiers == tier).sum(axis=1) for tier in range(1, 5)], axis=1) == [3, 2, 1, 2]).all()
    similarity = given.centroids @ given.centroids.T
    np.fill_diagonal(similarity, -2)
    beside = np.argsort(-similarity, axis=1)[:, :2]
    for row, (_, source) in enumerate(given.pairs):
        own = given.source_cluster[source]
        clusters = given.source_cluster[found.rows[row][found.tiers[row] == ADJACENT]]
        assert set(clusters.tolist()) <= set(beside[own].tolist())


def test_the_similar_tier_is_that_of_brute_force() -> None:
    given = pair_set()
    config = NegativeConfig(n_neg=3, tier_proportions=(0, 0, 1, 0), margin=None)
    found = mine(given, config)
    assert (found.tiers == SIMILAR).all()
    for row, (question, source) in enumerate(given.pairs):
        scores = given.sources @ given.questions[question]
        known = given.positives[given.positives[:, 0] == question, 1]
        out = (given.source_cluster == given.source_cluster[source]) | np.isin(
            given.text_group, given.text_group[known]
        )
        scores[out | (given.text_group != np.arange(120))] = -np.inf
        assert set(found.rows[row].tolist()) == set(np.argsort(-scores)[:3].tolist())


def test_searching_a_part_of_the_clusters_finds_what_is_in_them() -> None:
    given = pair_set(sources=300)
    pool = SourcePool(given.source_cluster, given.centroids, np.ones(300, dtype=bool))
    limits = np.linspace(0.2, 1, len(given.pairs)).astype(np.float32)
    found = similar_sources(given, pool, 2, limits, searched=1)
    for row, (question, source) in enumerate(given.pairs):
        nearness = given.centroids @ given.questions[question]
        nearness[given.source_cluster[source]] = -2
        members = np.flatnonzero(given.source_cluster == nearness.argmax())
        cosines = given.sources[members] @ given.questions[question]
        members, cosines = members[cosines <= limits[row]], cosines[cosines <= limits[row]]
        order = np.argsort(-cosines)[: found.rows.shape[1]]
        kept = found.rows[row] >= 0
        assert found.rows[row][kept].tolist() == members[order].tolist()
        np.testing.assert_allclose(found.scores[row][kept], cosines[order], atol=1e-6)
        assert np.isneginf(found.scores[row][~kept]).all()


def test_the_similar_tier_is_the_best_below_the_margin() -> None:
    given = pair_set()
    found = mine(given, NegativeConfig(n_neg=2, tier_proportions=(0, 0, 1, 0), margin=0.7))
    own = given.source_cluster[given.pairs[:, 1]]
    for row, (question, source) in enumerate(given.pairs):
        scores = given.sources @ given.questions[question]
        positive = scores[source]
        known = given.positives[given.positives[:, 0] == question, 1]
        out = (given.source_cluster == own[row]) | np.isin(given.text_group, given.text_group[known])
        out |= (given.text_group != np.arange(120)) | ((scores > 0.7 * positive) & (positive > 0))
        scores[out] = -np.inf
        expected = np.argsort(-scores)[: min(2, int((~out).sum()))]
        assert set(found.rows[row][found.tiers[row] == SIMILAR].tolist()) == set(expected.tolist())


def test_what_scores_like_the_positive_is_left_out() -> None:
    given = pair_set()
    found = mine(given, NegativeConfig(n_neg=4, margin=0.8))
    question, source = given.pairs.T
    positive = np.einsum("pd,pd->p", given.questions[question], given.sources[source])
    assert found.inside_margin == 0
    above = found.scores > 0.8 * positive[:, None] + 1e-6
    assert not above[positive > 0].any()
    loose = mine(given, NegativeConfig(n_neg=4, margin=None))
    assert (loose.scores > 0.8 * positive[:, None]).any()


def test_a_pair_without_other_candidates_keeps_the_least_similar_and_says_so() -> None:
    given = pair_set(sources=14, questions=4)
    config = NegativeConfig(n_neg=10, margin=1e-6)
    found = mine(given, config)
    assert found.inside_margin > 0
    assert found.moved > 0
    check(given, found, np.ones(14, dtype=bool), config)


def test_only_allowed_sources_are_used() -> None:
    given = pair_set()
    allowed = np.arange(120) % 2 == 0
    config = NegativeConfig(n_neg=6)
    check(given, mine_negatives(given, allowed, config, 0), allowed, config)


def test_too_few_candidates_are_refused_before_any_work() -> None:
    given = pair_set(sources=8, questions=3)
    with pytest.raises(InputError, match=r"8 are asked for"):
        mine(given, NegativeConfig(n_neg=8))


def test_no_pair_needs_no_candidate() -> None:
    none = np.zeros((0, 2), dtype=np.int64)
    require_candidates(none, np.array([0]), np.arange(1), np.ones(1, dtype=bool), 5)
    given = pair_set()
    found = mine(replace(given, pairs=none), NegativeConfig(n_neg=3))
    assert found.rows.shape == found.scores.shape == (0, 3)


def test_the_seed_decides() -> None:
    given, config = pair_set(), NegativeConfig(n_neg=6)
    first, again, other = mine(given, config, 1), mine(given, config, 1), mine(given, config, 2)
    assert (first.rows == again.rows).all()
    assert (first.rows != other.rows).any()


def test_one_cluster_alone_still_gives_negatives() -> None:
    given = pair_set()
    one = PairSet(
        given.questions,
        given.sources,
        given.pairs,
        np.zeros(120, np.int64),
        given.centroids[:1],
        given.pairs,
        given.text_group,
    )
    config = NegativeConfig(n_neg=6)
    found = mine(one, config)
    assert (found.tiers == IN_CLUSTER).all()
    check(one, found, np.ones(120, dtype=bool), config)


def test_draws_are_uniform_over_their_range() -> None:
    given = pair_set()
    pool = SourcePool(given.source_cluster, given.centroids, np.ones(120, dtype=bool))
    own = np.zeros(4000, dtype=np.int64)
    draws = Draws(pool, 2, np.random.default_rng(0))
    for drawn, members in (
        (draws.in_cluster(own, 2), np.flatnonzero(given.source_cluster == 0)),
        (draws.elsewhere(own, 2), np.flatnonzero(given.source_cluster != 0)),
    ):
        counts = np.bincount(drawn.ravel(), minlength=120)
        assert set(np.flatnonzero(counts).tolist()) == set(members.tolist())
        expected = drawn.size / len(members)
        assert np.abs(counts[members] - expected).max() < 6 * np.sqrt(expected)


def test_shares_become_whole_numbers_that_sum_up() -> None:
    assert NegativeConfig(n_neg=12).counts() == (3, 3, 3, 3)
    assert NegativeConfig(n_neg=12, tier_proportions=(3, 4, 3, 2)).counts() == (3, 4, 3, 2)
    assert sum(NegativeConfig(n_neg=7).counts()) == 7
    assert NegativeConfig(n_neg=1, tier_proportions=(0, 0, 0, 5)).counts() == (0, 0, 0, 1)
    assert RANDOM == 4
    with pytest.raises(ValueError, match="tier_proportions"):
        NegativeConfig(tier_proportions=(0, 0, 0, 0))
