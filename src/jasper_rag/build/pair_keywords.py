"""Keywords of a dataset: its vocabulary, those of each pair with their weights, those of each question alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.build_plan import BuildPlan
from jasper_rag.build.cluster_file import keyword_key
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.text.keyword_learning import learn_keywords
from jasper_rag.text.keywords import KeywordVocabulary


@dataclass(frozen=True, slots=True)
class KeywordLinks:
    """Lists of keyword rows, one after the other.

    Args:
        values: int64 [L].
        offsets: int64 [n + 1]; list i is values[offsets[i] : offsets[i + 1]].
        weights: float32 [L], ln(1 + N / n_t) of each keyword: a rare one says more.
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]], vocabulary: KeywordVocabulary) -> KeywordLinks:
        """From lists of numbers in a vocabulary."""
        values = np.array([number for numbers in lists for number in numbers], dtype=np.int64)
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        weights = np.array(vocabulary.weights, dtype=np.float32)
        return cls(values, offsets, weights[values] if len(values) else np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class DatasetKeywords:
    """All keywords of a dataset: the vocabulary, the links of pairs and those of questions."""

    vocabulary: KeywordVocabulary
    of_pairs: KeywordLinks
    of_questions: KeywordLinks


def dataset_keywords(plan: BuildPlan) -> DatasetKeywords:
    """Keywords as given for the pairs; else those of the cluster file, else terms learnt, found in the texts.

    Those of a question come from its own text alone, so that they exist before anything is found.

    Args:
        plan: What is built.
    """
    table, config = plan.table, plan.config
    questions, sources = table.question_texts, table.source_texts
    if plan.given.keywords:
        lists = [plan.given.keywords.get(key, ()) for key in table.keys]
        vocabulary = KeywordVocabulary.of_lists(lists, config.language)
        of_pairs = [numbers[: config.keywords_per_pair] for numbers in vocabulary.ids_of(lists)]
    else:
        if plan.keyword_clusters is not None:
            known = [[keyword] for keyword in plan.keyword_clusters.cluster_of_keyword]
            vocabulary = KeywordVocabulary.of_lists(known, config.language)
        else:
            vocabulary = learn_keywords(sources, config.language, most=config.keyword_vocabulary)
        rows = [(question, source) for question, source in table.pairs.tolist()]
        of_pairs = list(vocabulary.of_pairs(questions, sources, rows, config.keywords_per_pair))
    of_questions = vocabulary.of_questions(questions, config.keywords_per_question)
    return DatasetKeywords(vocabulary, KeywordLinks.of(of_pairs, vocabulary), KeywordLinks.of(of_questions, vocabulary))


def keyword_vectors(
    vocabulary: KeywordVocabulary, given: Mapping[str, Vectors], encoder: Encoder, store: EmbeddingStore, dimension: int
) -> Vectors:
    """Vectors of the keywords, float32 [V, D]; a keyword steers a question, so it is read as a question is.

    Args:
        vocabulary: The V keywords.
        given: Vectors by `keyword_key`, float32 [D]; only the other keywords are embedded.
        encoder: Of the texts.
        store: Where embeddings are cached.
        dimension: D.
    """
    vectors = np.empty((len(vocabulary), dimension), dtype=np.float32)
    missing = [row for row, keyword in enumerate(vocabulary.keywords) if keyword_key(keyword) not in given]
    if missing:
        words = [vocabulary.keywords[row] for row in missing]
        vectors[missing] = store.embed(words, encoder, "query", "keywords")
    for row, keyword in enumerate(vocabulary.keywords):
        if keyword_key(keyword) in given:
            vectors[row] = given[keyword_key(keyword)]
    return vectors
