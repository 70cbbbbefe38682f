"""Which questions train, decide and test: real ones where there are enough, sentences of the documents where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from jasper_rag.errors import InputError
from jasper_rag.text.query_synthesis import pseudo_questions
from jasper_rag.text.records import Qrels, RetrievalSet
from jasper_rag.text.splitting import ensure_splits, split_by_document
from jasper_rag.text.training_questions_config import PseudoQuestionConfig

PSEUDO = "pseudo"
"""Name of the split of pseudo-questions that stand beside real ones."""

Kind = Literal["labelled", "labelled and pseudo", "pseudo"]


@dataclass(frozen=True, slots=True)
class TrainingQuestions:
    """A set that can be trained on.

    Args:
        retrieval_set: With the splits train, dev and test, and `PSEUDO` where pseudo-questions stand beside them.
        kind: What may train. "pseudo": train and dev hold sentences of the documents, for lack of labels.
        labelled_pairs: Labelled question-document pairs that train and decide, of those that were given.
        real_test: Real questions in the test split; 0 where it too holds pseudo-questions.
        notes: What was decided and why, a sentence each.
    """

    retrieval_set: RetrievalSet
    kind: Kind
    labelled_pairs: int
    real_test: int
    notes: tuple[str, ...] = ()


def training_questions(
    retrieval_set: RetrievalSet, config: PseudoQuestionConfig, seed: int, *, encodable: bool = True
) -> TrainingQuestions:
    """Find or make the questions of all three splits.

    Args:
        retrieval_set: Documents, and whatever questions there are.
        config: When pseudo-questions are used.
        seed: Of splits and sentences.
        encodable: False where vectors were given: what has none cannot become a question.

    Raises:
        InputError: The splits cannot be used, or there are no labels and the documents have too few sentences.
    """
    given = {split: qrels for split, qrels in retrieval_set.qrels.items() if pairs_of(qrels)}
    for split in retrieval_set.qrels.keys() & {"dev", "test"} - given.keys():
        problem = f"no question of {retrieval_set.name}, split {split!r}, has a relevant document."
        raise InputError(problem, field="split", remedy="Add judgements above 0, or leave the split out.")
    deciding = sum(pairs_of(qrels) for split, qrels in given.items() if split != "test")
    if deciding >= max(config.fewest_labelled, 1) and given.keys() != {"dev", "test"} and given.keys() != {"dev"}:
        return _labelled(retrieval_set, config if encodable else config.model_copy(update={"use": "never"}), seed)
    if not encodable:
        remedy = f"Give judgements of at least {max(config.fewest_labelled, 1)} pairs outside the test split."
        raise InputError(f"{deciding} labelled pairs to train and decide on.", field="qrels", remedy=remedy)
    if not any(document.content.strip() for document in retrieval_set.documents):
        remedy = f"Give at least {config.fewest_labelled} labelled pairs, or the documents' texts."
        raise InputError(f"{deciding} labelled pairs and no text to make questions from.", remedy=remedy)
    return _documents_only(retrieval_set, given, deciding, config, seed)


def labelled_only(retrieval_set: RetrievalSet) -> RetrievalSet:
    """The set without the split of pseudo-questions beside real ones: these are quotations by design, not leaks."""
    return replace(retrieval_set, qrels={split: q for split, q in retrieval_set.qrels.items() if split != PSEUDO})


def pairs_of(qrels: Qrels) -> int:
    """Question-document pairs judged relevant."""
    return sum(grade > 0 for grades in qrels.values() for grade in grades.values())


def _answered(qrels: Qrels) -> Qrels:
    return {query: judged for query, judged in qrels.items() if any(grade > 0 for grade in judged.values())}


def _labelled(retrieval_set: RetrievalSet, config: PseudoQuestionConfig, seed: int) -> TrainingQuestions:
    splits = ensure_splits(retrieval_set, seed)
    train, real = pairs_of(splits.qrels["train"]), len(_answered(splits.qrels["test"]))
    has_text = any(document.text.strip() for document in splits.documents)
    beside = config.use == "always" or (config.use == "auto" and train < config.below)
    if not (beside and has_text):
        return TrainingQuestions(splits, "labelled", train, real)
    pseudo = pseudo_questions(splits.documents, config.per_document, seed)
    if not pseudo.queries:
        return TrainingQuestions(splits, "labelled", train, real)
    both = replace(
        splits, queries=(*splits.queries, *pseudo.queries), qrels={**splits.qrels, PSEUDO: dict(pseudo.qrels)}
    )
    note = f"{len(pseudo.queries):,} sentences of the documents stand beside {train:,} labelled pairs; dev decides."
    return TrainingQuestions(both, "labelled and pseudo", train, real, (note,))


def _documents_only(
    retrieval_set: RetrievalSet, given: Mapping[str, Qrels], labelled: int, config: PseudoQuestionConfig, seed: int
) -> TrainingQuestions:
    pseudo = pseudo_questions(retrieval_set.documents, config.per_document, seed)
    if len(pseudo.queries) < config.fewest_labelled:
        raise InputError(
            f"{retrieval_set.name} has {labelled} labelled pairs, and its {len(retrieval_set.documents):,} documents "
            f"gave {len(pseudo.queries)} sentences that could stand in for questions.",
            remedy=f"Give at least {config.fewest_labelled} labelled pairs, or more documents with whole sentences.",
        )
    # Real questions, however few, are the better test.
    asked = [given["test"]] if "test" in given else given.values()
    real = {query: judged for qrels in asked for query, judged in _answered(qrels).items()}
    alone = replace(retrieval_set, queries=tuple(pseudo.queries), qrels={"all": pseudo.qrels})
    shares = (0.9, 0.1, 0.0) if real else (0.8, 0.1, 0.1)
    splits = split_by_document(alone, seed, shares)
    notes = [
        f"{labelled} labelled pairs to train and decide on (at least {config.fewest_labelled} are needed): "
        f"{len(pseudo.queries):,} sentences of the documents stand in for questions."
    ]
    if real:
        notes.append(f"Tested on {len(real):,} real questions; none of them trained or decided anything.")
        splits = replace(
            splits,
            queries=(*splits.queries, *(query for query in retrieval_set.queries if query.id in real)),
            qrels={**splits.qrels, "test": real},
        )
    else:
        notes.append("Nothing was verified on real questions: every figure below is of held-out sentences.")
    return TrainingQuestions(splits, "pseudo", 0, len(real), tuple(notes))
