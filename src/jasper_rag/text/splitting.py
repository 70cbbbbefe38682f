"""Train, dev and test: splits that share no source, reproducible from a seed whatever the order of the input.

The report on leaks is in `leakage`, stored splits in `split_file`; both are re-exported here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import LeakReport as LeakReport
from jasper_rag.text.leakage import leak_report as leak_report
from jasper_rag.text.leakage import normalised as normalised
from jasper_rag.text.leakage import text_key
from jasper_rag.text.records import Qrels, RetrievalSet
from jasper_rag.text.split_file import all_judgements, with_splits
from jasper_rag.text.split_file import read_splits as read_splits
from jasper_rag.text.split_file import write_splits as write_splits

logger = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")

CARVED = 0.1
"""Part of train that becomes a missing dev or test split."""

_Node = tuple[str, str]


def split_by_document(
    retrieval_set: RetrievalSet, seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> RetrievalSet:
    """Split so that no relevant document, and no question, stands in two splits.

    Questions that share a relevant document, directly or through other questions, form one group (union-find);
    so do questions of equal text and documents of equal content. Groups are put in the order of
    sha256(seed, smallest document id in the group) and dealt out whole until each split has its share of questions.

    Args:
        retrieval_set: The set; whatever splits it has are given up.
        seed: Another seed, another split.
        fractions: Parts of the questions for train, dev and test; they sum to 1, a part of 0 leaves the split out.

    Raises:
        InputError: There are fewer groups than splits.
        ValueError: The fractions are negative or do not sum to 1.
    """
    judgements = all_judgements(retrieval_set)
    groups = _document_groups(retrieval_set, judgements)
    return _split(retrieval_set, judgements, groups, seed, dict(zip(SPLITS, fractions, strict=True)))


def split_by_query(
    retrieval_set: RetrievalSet, seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> RetrievalSet:
    """Split by question: equal questions stay together, documents may be relevant in several splits.

    For measuring new questions to known sources; `split_by_document` is the harder and more honest test.
    Arguments and errors are those of `split_by_document`.
    """
    judgements = all_judgements(retrieval_set)
    text = {query.id: query.text for query in retrieval_set.queries}
    groups: dict[str, list[str]] = {}
    for query in judgements:
        groups.setdefault(text_key(text[query], query), []).append(query)
    keyed = [(min(members), members) for members in groups.values()]
    return _split(retrieval_set, judgements, keyed, seed, dict(zip(SPLITS, fractions, strict=True)))


def ensure_splits(retrieval_set: RetrievalSet, seed: int) -> RetrievalSet:
    """Return the set with train, dev and test.

    Given splits are kept. A single split ("all", "train" or any other name but dev and test) is split by document
    80/10/10. A missing dev split is carved out of train (10 % of it, by groups of documents), then a missing
    test split likewise. A set without training questions (test only, dev and test) stays as it is: it can be
    evaluated, not trained on.

    Args:
        retrieval_set: The set.
        seed: For what is split or carved.

    Raises:
        InputError: There are no judged questions, too few of them, or splits beside train, dev and test.
    """
    given: dict[str, Qrels] = {split: qrels for split, qrels in retrieval_set.qrels.items() if _answered(qrels)}
    if not given:
        raise InputError(
            f"{retrieval_set.name}: no question has a relevant document, so there is nothing to split.",
            remedy="Add judged questions, or make some from the documents.",
        )
    if len(given) == 1 and not given.keys() & {"dev", "test"}:
        return split_by_document(retrieval_set, seed)
    unknown = sorted(given.keys() - set(SPLITS))
    if unknown:
        raise InputError(
            f"{retrieval_set.name}: splits {', '.join(map(repr, unknown))} beside {_names(given.keys() - {*unknown})}.",
            remedy="Name the splits train, dev and test, or give one split to be divided.",
        )
    if "train" not in given:
        return retrieval_set
    for missing in ("dev", "test"):
        if missing not in given:
            given |= _carved(retrieval_set, given["train"], missing, seed)
    return RetrievalSet(
        retrieval_set.name, retrieval_set.documents, retrieval_set.queries, {split: given[split] for split in SPLITS}
    )


def _carved(retrieval_set: RetrievalSet, train: Qrels, name: str, seed: int) -> dict[str, Qrels]:
    groups = _document_groups(retrieval_set, train)
    shares = {"train": 1 - CARVED, name: CARVED}
    return dict(_split(retrieval_set, train, groups, seed, shares).qrels)


def _answered(qrels: Qrels) -> bool:
    return any(score > 0 for judged in qrels.values() for score in judged.values())


def _names(splits: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(splits))) or "no other"


def _split(
    retrieval_set: RetrievalSet,
    judgements: Qrels,
    groups: Iterable[tuple[str, Sequence[str]]],
    seed: int,
    shares: Mapping[str, float],
) -> RetrievalSet:
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"fractions must be at least 0 and sum to 1, got {tuple(shares.values())}.")
    wanted = {split: share for split, share in shares.items() if share > 0}
    ordered = [members for _, members in sorted(groups, key=_seeded_order(seed))]
    if len(ordered) < len(wanted):
        raise InputError(
            f"{retrieval_set.name}: {len(judgements)} questions in {len(ordered)} groups that share no source cannot "
            f"fill {len(wanted)} splits ({', '.join(wanted)}): one would be empty.",
            remedy=f"Give at least {len(wanted)} questions with different sources, or name the splits yourself.",
        )
    dealt = _dealt(ordered, wanted)
    for split, share in wanted.items():
        if len(dealt[split]) < share * len(judgements) / 2:
            logger.warning(
                "%s: split %r has %d of %d questions instead of %.0f %%: the largest group that shares sources has %d.",
                retrieval_set.name, split, len(dealt[split]), len(judgements), 100 * share, max(map(len, ordered)),
            )  # fmt: skip
    return with_splits(retrieval_set, judgements, dealt)


def _seeded_order(seed: int) -> Callable[[tuple[str, Sequence[str]]], bytes]:
    return lambda group: hashlib.sha256(f"{seed}\0{group[0]}".encode()).digest()


def _dealt(groups: Sequence[Sequence[str]], shares: Mapping[str, float]) -> dict[str, list[str]]:
    """Deal whole groups out in order; a group goes to the split its middle question falls into."""
    total = sum(map(len, groups))
    names = list(shares)
    dealt: dict[str, list[Sequence[str]]] = {name: [] for name in names}
    limits = [sum(list(shares.values())[: position + 1]) * total for position in range(len(names))]
    before = 0
    for group in groups:
        middle = before + len(group) / 2
        place = next((name for name, limit in zip(names, limits, strict=True) if middle < limit), names[-1])
        dealt[place].append(group)
        before += len(group)
    for name in names:
        if not dealt[name]:  # few or very uneven groups: the richest split gives its smallest group
            richest = max(names, key=lambda one: len(dealt[one]))
            smallest = min(dealt[richest], key=len)
            dealt[richest].remove(smallest)
            dealt[name].append(smallest)
    return {name: [query for group in dealt[name] for query in group] for name in names}


def _document_groups(retrieval_set: RetrievalSet, judgements: Qrels) -> list[tuple[str, list[str]]]:
    """Return (smallest relevant document id, queries) of every group."""
    text = {query.id: query.text for query in retrieval_set.queries}
    content = {document.id: document.content for document in retrieval_set.documents}
    joined = _UnionFind()
    for query, judged in judgements.items():
        node = ("query", query)
        joined.join(node, ("question", text_key(text[query], query)))
        for document, score in judged.items():
            if score > 0:
                joined.join(node, ("document", document))
                joined.join(("document", document), ("content", text_key(content[document], document)))
    queries: dict[_Node, list[str]] = {}
    documents: dict[_Node, str] = {}
    for query, judged in judgements.items():
        root = joined.root(("query", query))
        queries.setdefault(root, []).append(query)
        # A question without a relevant document is known by its own id; the mark keeps it from meeting a document's.
        smallest = min((document for document, score in judged.items() if score > 0), default=f"\0{query}")
        documents[root] = min(documents.get(root, smallest), smallest)
    return [(documents[root], members) for root, members in queries.items()]


class _UnionFind:
    """Disjoint sets, with path halving."""

    def __init__(self) -> None:
        self.parent: dict[_Node, _Node] = {}

    def root(self, node: _Node) -> _Node:
        self.parent.setdefault(node, node)
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def join(self, one: _Node, other: _Node) -> None:
        self.parent[self.root(one)] = self.root(other)
