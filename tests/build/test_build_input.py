from __future__ import annotations

import random

from jasper_rag.build.build_input import BuildInput
from jasper_rag.text.original_csv import ScoredPair

PAIRS = [
    ScoredPair("why do cats purr", "cats purr when content", 0.8, ("Cat", "sound")),
    ScoredPair("why do cats purr", "dogs bark", 0.0, ("dog",)),
    ScoredPair("do dogs bark", "dogs bark", 1.0),
    ScoredPair("a question without an answer", "cats purr when content", 0.0),
]


def test_pairs_of_relevance_zero_are_no_positives() -> None:
    given = BuildInput.of_pairs(PAIRS, "pets")
    (split,) = given.retrieval_set.qrels
    qrels = given.retrieval_set.qrels[split]
    texts = {query.text: query.id for query in given.retrieval_set.queries}
    sources = {document.text: document.id for document in given.retrieval_set.documents}
    cats, dogs = sources["cats purr when content"], sources["dogs bark"]
    assert qrels[texts["why do cats purr"]] == {cats: 1, dogs: 0}
    assert given.relevance == {(texts["why do cats purr"], cats): 0.8, (texts["do dogs bark"], dogs): 1.0}
    assert given.keywords[texts["why do cats purr"], cats] == ("Cat", "sound")
    # What a wrong pair says of its source is still known.
    assert given.keywords[texts["why do cats purr"], dogs] == ("dog",)
    assert len(given.keywords) == 2


def test_the_order_of_the_rows_does_not_matter() -> None:
    first = BuildInput.of_pairs(PAIRS, "pets")
    for seed in range(5):
        shuffled = random.Random(seed).sample(PAIRS, len(PAIRS))
        other = BuildInput.of_pairs(shuffled, "pets")
        assert set(other.retrieval_set.documents) == set(first.retrieval_set.documents)
        assert set(other.retrieval_set.queries) == set(first.retrieval_set.queries)
        assert (other.relevance, other.keywords) == (first.relevance, first.keywords)
        assert other.retrieval_set.qrels == first.retrieval_set.qrels
