"""Pairs dealt to train, val and test so that no document, and no query, stands in two of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from jasper_rag.errors import InputError

SPLITS = ("train", "val", "test")

_TOLERANCE = 1e-6


def checked_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """Shares of train, val and test.

    Raises:
        InputError: They are not three numbers of at least 0 that sum to 1, or leave nothing to train on.
    """
    good = len(shares) == len(SPLITS) and all(math.isfinite(share) and share >= 0 for share in shares)
    if not good or abs(sum(shares) - 1) > _TOLERANCE or not shares[0]:
        given = " ".join(f"{share:g}" for share in shares)
        remedy = "Give three that sum to 1, for train, val and test: --split 0.8 0.1 0.1"
        raise InputError(f"the shares are {given}.", remedy=remedy, field="split")
    return shares[0], shares[1], shares[2]


def split_pairs(
    queries: Sequence[str], documents: Sequence[int], shares: Sequence[float], seed: int, *, shuffle: bool = True
) -> list[str]:
    """The split of each pair.

    Documents that are answers to an equal query go together. The shares are of documents (or such groups of them),
    rounded, at least one where a share is not 0.

    Args:
        queries: Per pair a key that equal queries share.
        documents: Per pair the row of its document.
        shares: See `checked_shares`.
        seed: Another seed, another choice.
        shuffle: Otherwise the first documents are for train and the last ones for test.

    Raises:
        InputError: Bad shares, or fewer documents than splits.
    """
    shares = checked_shares(shares)
    group_of = _groups(queries, documents)
    groups = list(dict.fromkeys(group_of))
    wanted = sum(share > 0 for share in shares)
    if len(groups) < wanted:
        problem = f"{len(groups)} documents with queries cannot be dealt to {wanted} splits."
        raise InputError(problem, remedy="Give more documents, or fewer splits: --split 1 0 0", field="split")
    if shuffle:
        groups.sort(key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode()).digest())
    counts = [max(round(share * len(groups)), 1) if share else 0 for share in shares[1:]]
    while sum(counts) >= len(groups):  # rounding may leave nothing to train on
        counts[counts.index(max(counts))] -= 1
    first = len(groups) - sum(counts)
    split_of = {
        group: SPLITS[0 if place < first else 1 if place < first + counts[0] else 2]
        for place, group in enumerate(groups)
    }
    return [split_of[group] for group in group_of]


def _groups(queries: Sequence[str], documents: Sequence[int]) -> list[int]:
    """Per pair the number of its group: pairs that share a query or a document are in one."""
    parent: dict[object, object] = {}

    def root(node: object) -> object:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for query, document in zip(queries, documents, strict=True):
        parent[root(query)] = root(document)
    numbers: dict[object, int] = {}
    return [numbers.setdefault(root(document), len(numbers)) for document in documents]
