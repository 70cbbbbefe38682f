"""Names of clusters: the terms that set the texts of one cluster apart from those of the others.

Class-based TF-IDF (Grootendorst 2022, arXiv:2203.05794): the weight of term t in cluster c is

    W_tc = tf_tc / n_c * ln(1 + A / f_t)

with tf_tc how often t occurs in the texts of c, n_c = sum_t tf_tc, f_t = sum_c tf_tc and A = the mean of n_c. A text
in which t occurs m times adds sqrt(m) to tf_tc, not m: a word that one text repeats is not what the cluster is about.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from jasper_rag.text.terms import Term, TermCorpus, read_terms

NAME_TERMS = 3
"""Terms that make up a name."""

_CANDIDATES = 30
"""Terms of a cluster, best first, that its name may be made of."""

_PAIR_SHARE = 0.5
"""Share of a word's occurrences in a cluster from which the pair it stands in is shown in its place."""

_SHORTEST_VARIANT, _LONGEST_ENDING = 3, 3
"""Letters from which a word counts as the beginning of another, and most letters by which variants differ."""

Weights = Mapping[Term, float]


@dataclass(frozen=True, slots=True)
class ClusterTerms:
    """What one cluster is about.

    Args:
        name: Up to three terms joined by commas, such as "git, commit, branch"; no other cluster has this name, and
            none of its terms stands in another name unless the cluster has no term of its own left.
        terms: Up to ten terms, most telling first; other clusters may have some of them too.
    """

    name: str
    terms: tuple[str, ...]


def describe_clusters(
    texts: Iterable[str], assignment: Sequence[int], clusters: int, language: str = "english", terms: int = 10
) -> tuple[ClusterTerms, ...]:
    """Name clusters by what sets their texts apart.

    A word that mostly stands in one pair of words is shown as that pair; variants of one word ("Turkey", "Turkish")
    are shown once.

    Args:
        texts: N texts, titles included.
        assignment: Cluster of each text, in 0 .. clusters-1.
        clusters: How many there are.
        language: One of `words.LANGUAGES`.
        terms: Most terms listed beside each name.

    Returns:
        One description per cluster. A cluster without any term is called "topic 7" after its number, counted from 1.

    Raises:
        InputError: An unknown language.
        ValueError: Another number of texts than of assignments, or a cluster out of range.
    """
    corpus = read_terms(texts, language)
    if len(corpus) != len(assignment):
        raise ValueError(f"{len(corpus)} texts but {len(assignment)} assignments.")
    if assignment and not 0 <= min(assignment) <= max(assignment) < clusters:
        raise ValueError(f"clusters {min(assignment)} to {max(assignment)}, expected 0 to {clusters - 1}.")
    counts = _count_words(corpus, assignment, clusters)
    candidates = [_best(weights, corpus) for weights in class_tf_idf(counts)]
    pairs = _count_pairs(corpus, assignment, candidates)
    merged = [_merge_pairs(corpus, *each) for each in zip(candidates, counts, pairs, strict=True)]
    chosen = _choose_names(merged, corpus)
    listed = [_without_variants(weights, corpus, terms) for weights in merged]
    spelled = corpus.spellings(term for row in (*chosen, *listed) for term in row)
    names = _distinct([", ".join(spelled[term] for term in row) for row in chosen])
    return tuple(
        ClusterTerms(name, tuple(spelled[term] for term in row)) for name, row in zip(names, listed, strict=True)
    )


def class_tf_idf(counts: Sequence[Mapping[Term, float]]) -> list[dict[Term, float]]:
    """W_tc of the module's equation.

    Args:
        counts: Per cluster, tf_tc.

    Returns:
        Per cluster, the weight of each of its terms.
    """
    totals = [sum(count.values()) for count in counts]
    mean = sum(totals) / max(len(counts), 1)
    everywhere: defaultdict[Term, float] = defaultdict(float)
    for count in counts:
        for term, occurrences in count.items():
            everywhere[term] += occurrences
    return [
        {term: occurrences / total * math.log1p(mean / everywhere[term]) for term, occurrences in count.items()}
        for count, total in zip(counts, totals, strict=True)
    ]


def _count_words(corpus: TermCorpus, assignment: Sequence[int], clusters: int) -> list[defaultdict[Term, int]]:
    counts: list[defaultdict[Term, int]] = [defaultdict(int) for _ in range(clusters)]
    for text, cluster in enumerate(assignment):
        count = counts[cluster]
        for stem, occurrences in Counter(corpus.stems_of(text)).items():
            if stem:
                count[stem,] += _damped(occurrences)
    return counts


def _count_pairs(
    corpus: TermCorpus, assignment: Sequence[int], candidates: Sequence[Weights]
) -> list[defaultdict[Term, int]]:
    """As `_count_words`, of the pairs that hold a candidate of their cluster."""
    counts: list[defaultdict[Term, int]] = [defaultdict(int) for _ in candidates]
    wanted = [{stem for term in weights for stem in term} for weights in candidates]
    for text, cluster in enumerate(assignment):
        following = pairwise(corpus.stems_of(text))
        of_interest = wanted[cluster]
        found = Counter([p for p in following if (p[0] in of_interest or p[1] in of_interest) and p[0] and p[1]])
        count = counts[cluster]
        for pair, occurrences in found.items():
            count[pair] += _damped(occurrences)
    return counts


def _damped(occurrences: int) -> int:
    """sqrt(m) in units of 1/1024: whole numbers, whose sum does not depend on the order of the texts."""
    return round(1024 * math.sqrt(occurrences))


def _merge_pairs(corpus: TermCorpus, candidates: Weights, words: Weights, pairs: Weights) -> dict[Term, float]:
    """The candidates, best first, with each word that mostly stands in one pair replaced by that pair."""
    pair_of: dict[Term, Term] = {}
    for pair, count in sorted(pairs.items(), key=lambda item: (-item[1], _stems(item[0], corpus))):
        for stem in pair:
            word: Term = (stem,)
            if word in candidates and count >= _PAIR_SHARE * words[word] and not _variants(*_stems(pair, corpus)):
                pair_of.setdefault(word, pair)
    merged: dict[Term, float] = {}
    for word, weight in candidates.items():
        # Best first, so a pair has the weight of the better one of its words.
        merged.setdefault(pair_of.get(word, word), weight)
    return merged


def _choose_names(candidates: Sequence[Weights], corpus: TermCorpus) -> list[list[Term]]:
    """Terms of each name: every term goes to the cluster where it weighs most, unless that one needs it not."""
    chosen: list[list[Term]] = [[] for _ in candidates]
    taken: set[Term] = set()
    offers = ((weight, cluster, term) for cluster, weights in enumerate(candidates) for term, weight in weights.items())
    for _, cluster, term in sorted(offers, key=lambda offer: (-offer[0], offer[1], _stems(offer[2], corpus))):
        if term not in taken and _fits(term, chosen[cluster], corpus):
            chosen[cluster].append(term)
            taken.add(term)
    for cluster, weights in enumerate(candidates):
        if not chosen[cluster]:
            chosen[cluster] = _without_variants(weights, corpus, NAME_TERMS)
    return chosen


def _fits(term: Term, name: Sequence[Term], corpus: TermCorpus) -> bool:
    return len(name) < NAME_TERMS and not any(
        _variants(one, other) for used in name for one in _stems(used, corpus) for other in _stems(term, corpus)
    )


def _without_variants(weights: Weights, corpus: TermCorpus, most: int) -> list[Term]:
    kept: list[Term] = []
    for term in weights:
        stems = _stems(term, corpus)
        if not any(_variants(one, other) for used in kept for one in _stems(used, corpus) for other in stems):
            kept.append(term)
    return kept[:most]


def _stems(term: Term, corpus: TermCorpus) -> list[str]:
    return [corpus.stems[stem] for stem in term]


def _variants(one: str, other: str) -> bool:
    """Whether two stems are too alike for one name: "rna" and "rnas", "turkey" and "turkish", "file1" and "file2"."""
    one, other = one.rstrip("0123456789") or one, other.rstrip("0123456789") or other
    short, long = sorted((one, other), key=len)
    if long.startswith(short) and (len(short) >= _SHORTEST_VARIANT or long == short):
        return True
    common = next(place for place, letters in enumerate(zip_longest(one, other)) if letters[0] != letters[1])
    return common > _SHORTEST_VARIANT and len(long) - common <= _LONGEST_ENDING


def _best(weights: Weights, corpus: TermCorpus) -> dict[Term, float]:
    """The candidates, best first; equal weights in the order of their letters, however texts are ordered."""
    best = heapq.nsmallest(_CANDIDATES, weights.items(), key=lambda item: (-item[1], _stems(item[0], corpus)))
    return dict(best)


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """The names, with a number where there is none or it was given before."""
    given: Counter[str] = Counter()
    for number, name in enumerate(names, 1):
        if not name:
            yield f"topic {number}"
            continue
        given[name] += 1
        yield name if given[name] == 1 else f"{name} ({given[name]})"
