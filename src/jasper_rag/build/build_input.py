"""What a dataset is built from: documents, questions and, per pair, a relevance and perhaps keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jasper_rag.text.original_csv import ScoredPair, pairs_as_set
from jasper_rag.text.records import RetrievalSet

PairKey = tuple[str, str]
"""(query id, document id)."""


@dataclass(frozen=True, slots=True)
class BuildInput:
    """A retrieval set and what is known of its pairs beyond the judgements.

    Args:
        retrieval_set: Documents, queries, judgements.
        relevance: Pair -> relevance in (0, 1]; a pair that is missing has its grade over the highest grade of the set.
        keywords: Pair -> given keywords; empty: they are found in the texts.
    """

    retrieval_set: RetrievalSet
    relevance: Mapping[PairKey, float] = field(default_factory=dict)
    keywords: Mapping[PairKey, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of_pairs(cls, pairs: Sequence[ScoredPair], name: str) -> BuildInput:
        """From the rows of the original project's CSV files; pairs of relevance 0 are known and no positives.

        The ids are numbers in the order of the texts, so that the order of the rows does not matter.
        """
        pairs = sorted(pairs, key=lambda pair: (pair.question, pair.source))
        retrieval_set = pairs_as_set(pairs, name)
        query_ids = {query.text: query.id for query in retrieval_set.queries}
        document_ids = {document.text: document.id for document in retrieval_set.documents}
        keys = [(query_ids[pair.question], document_ids[pair.source]) for pair in pairs]
        return cls(
            retrieval_set,
            {key: pair.relevance for key, pair in zip(keys, pairs, strict=True) if pair.relevance > 0},
            {key: pair.keywords for key, pair in zip(keys, pairs, strict=True) if pair.keywords},
        )
