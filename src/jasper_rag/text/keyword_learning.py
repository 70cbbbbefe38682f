"""Which terms of a corpus are worth being keywords: those that its texts are about, not those they all share."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from jasper_rag.text.keywords import KeywordVocabulary
from jasper_rag.text.terms import Term, TermCorpus, read_terms

VOTES = 8
"""Terms each text may propose: enough that common subjects win, few enough that common words do not."""

_PAIR_SHARE = 0.25
"""Share of the texts with the rarer of two words in which they must stand side by side to be a keyword together."""


def learn_keywords(
    texts: Sequence[str],
    language: str = "english",
    *,
    most: int = 4_000,
    fewest_texts: int = 2,
    largest_share: float = 0.2,
) -> KeywordVocabulary:
    """Words, and pairs of words that often stand together, that tell texts apart.

    Every text votes for the eight terms that weigh most in it (w_t as in `keywords`); the terms with the most votes
    are kept, equal ones by the sum of w_t / |w| over the texts that vote for them. The order of texts does not matter.

    Args:
        texts: N sources.
        language: One of `words.LANGUAGES`.
        most: Size of the vocabulary at most.
        fewest_texts: Texts that a keyword must occur in at least.
        largest_share: Share of the texts above which a term is too common to tell anything.

    Raises:
        InputError: An unknown language.
    """
    corpus = read_terms(texts, language)
    frequency = _text_frequencies(corpus, fewest_texts, max(largest_share * len(corpus), fewest_texts))
    idf = {term: math.log1p(len(corpus) / count) for term, count in frequency.items()}
    votes: Counter[Term] = Counter()
    mass: defaultdict[Term, list[float]] = defaultdict(list)
    for text in range(len(corpus)):
        found = {t: math.sqrt(n) * idf[t] for t, n in Counter(_terms_of(corpus.stems_of(text), idf)).items()}
        heaviest = heapq.nsmallest(VOTES, found, key=lambda term: (-found[term], [corpus.stems[s] for s in term]))
        votes.update(heaviest)
        length = math.hypot(*found.values())
        for term in heaviest:
            mass[term].append(found[term] / length)
    # fsum: exact, so that the sum does not depend on the order of the texts.
    rank = {t: (-count, -math.fsum(mass[t]), [corpus.stems[stem] for stem in t]) for t, count in votes.items()}
    ranked = sorted(rank, key=rank.__getitem__)[:most]
    spelled = corpus.spellings(ranked)
    shown: dict[str, Term] = {}
    for term in ranked:
        # Two stems can have one spelling but for the case of letters; the better one keeps it.
        shown.setdefault(spelled[term].casefold(), term)
    return KeywordVocabulary(
        tuple(spelled[term] for term in shown.values()), tuple(idf[term] for term in shown.values()), language
    )


def _text_frequencies(corpus: TermCorpus, fewest: int, most: float) -> dict[Term, int]:
    """Number of texts with each word, and with each pair of such words that often stand together; fewest to most."""
    words = Counter(stem for text in range(len(corpus)) for stem in set(corpus.stems_of(text)) if stem)
    kept = {stem for stem, count in words.items() if fewest <= count <= most}
    pairs: Counter[tuple[int, int]] = Counter()
    for text in range(len(corpus)):
        pairs.update({(a, b) for a, b in pairwise(corpus.stems_of(text)) if a in kept and b in kept and a != b})
    frequencies: dict[Term, int] = {(stem,): words[stem] for stem in kept}
    for pair, count in pairs.items():
        if count >= max(fewest, _PAIR_SHARE * min(words[pair[0]], words[pair[1]])):
            frequencies[*pair] = count
    return frequencies


def _terms_of(stems: Sequence[int], known: Mapping[Term, float]) -> Iterator[Term]:
    """The known terms of a text in order; where a pair begins, its words are not counted by themselves."""
    position = 0
    while position < len(stems):
        pair, word = tuple(stems[position : position + 2]), (stems[position],)
        if pair in known:
            yield pair
            position += 2
            continue
        if word in known:
            yield word
        position += 1
