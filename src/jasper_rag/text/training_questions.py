"""Which questions train, decide and test: real ones where there are enough, made of the documents where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from jasper_rag.errors import InputError
from jasper_rag.text.query_synthesis import as_keywords, pseudo_questions, sample_of
from jasper_rag.text.records import Qrels, RetrievalSet
from jasper_rag.text.splitting import ensure_splits, split_by_document
from jasper_rag.text.training_questions_config import PseudoQuestionConfig
from jasper_rag.text.words import stop_words

PSEUDO, PSEUDO_DEV = "pseudo", "pseudo_dev"
"""Names of the splits of pseudo-questions that stand beside real ones: what trains, and what is held out to decide."""

HELD_OUT = 1_000
"""Most pseudo-questions held out to decide, and as many to test; a tenth where there are fewer than ten times these."""

Kind = Literal["labelled", "labelled and pseudo", "pseudo"]


@dataclass(frozen=True, slots=True)
class TrainingQuestions:
    """A set that can be trained on.

    Args:
        retrieval_set: With the splits train, dev and test, and `PSEUDO` and `PSEUDO_DEV` where pseudo-questions stand
            beside them.
        kind: What may train. "pseudo": train and dev hold pseudo-questions alone, for lack of labels.
        labelled_pairs: Labelled question-document pairs that train and decide, of those that were given.
        real_test: Real questions in the test split; 0 where it too holds pseudo-questions.
        real_dev: Real questions in the dev split; 0 where it holds pseudo-questions.
        notes: What was decided and why, a sentence each.
    """

    retrieval_set: RetrievalSet
    kind: Kind
    labelled_pairs: int
    real_test: int
    notes: tuple[str, ...] = ()
    real_dev: int = 0


def training_questions(
    retrieval_set: RetrievalSet,
    config: PseudoQuestionConfig,
    seed: int,
    *,
    language: str = "english",
    encodable: bool = True,
) -> TrainingQuestions:
    """Find or make the questions of all three splits.

    Args:
        retrieval_set: Documents, and whatever questions there are.
        config: When pseudo-questions are used.
        seed: Of splits and pseudo-questions.
        language: Of the documents: its stop words are no keywords.
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
        usable = config if encodable else config.model_copy(update={"use": "never"})
        return _labelled(retrieval_set, usable, seed, language)
    if not encodable:
        remedy = f"Give judgements of at least {max(config.fewest_labelled, 1)} pairs outside the test split."
        raise InputError(f"{deciding} labelled pairs to train and decide on.", field="qrels", remedy=remedy)
    if not any(document.content.strip() for document in retrieval_set.documents):
        remedy = f"Give at least {config.fewest_labelled} labelled pairs, or the documents' texts."
        raise InputError(f"{deciding} labelled pairs and no text to make questions from.", remedy=remedy)
    return _documents_only(retrieval_set, given, deciding, config, seed, language)


def labelled_only(questions: TrainingQuestions) -> RetrievalSet:
    """The set with its splits of real questions alone: pseudo-questions are quotations by design, not leaks."""
    if questions.kind == "pseudo":
        real = {split for split, count in (("dev", questions.real_dev), ("test", questions.real_test)) if count}
        found = questions.retrieval_set
        return replace(found, qrels={split: qrels for split, qrels in found.qrels.items() if split in real})
    return three_splits(questions.retrieval_set)


def three_splits(retrieval_set: RetrievalSet) -> RetrievalSet:
    """The set without the pseudo-questions that stand beside train and dev."""
    qrels = {split: judged for split, judged in retrieval_set.qrels.items() if split not in {PSEUDO, PSEUDO_DEV}}
    return replace(retrieval_set, qrels=qrels)


def pairs_of(qrels: Qrels) -> int:
    """Question-document pairs judged relevant."""
    return sum(grade > 0 for grades in qrels.values() for grade in grades.values())


def _answered(qrels: Qrels) -> Qrels:
    return {query: judged for query, judged in qrels.items() if any(grade > 0 for grade in judged.values())}


def _labelled(retrieval_set: RetrievalSet, config: PseudoQuestionConfig, seed: int, language: str) -> TrainingQuestions:
    splits = ensure_splits(retrieval_set, seed)
    train = pairs_of(splits.qrels["train"])
    dev, real = (len(_answered(splits.qrels[split])) for split in ("dev", "test"))
    has_text = any(document.text.strip() for document in splits.documents)
    beside = config.use == "always" or (config.use == "auto" and train < config.below)
    made = _made(splits, config, seed, language) if beside and has_text else None
    if made is None or len(made.queries) < max(config.fewest_labelled, 2):
        return TrainingQuestions(splits, "labelled", train, real, real_dev=dev)
    pseudo = split_by_document(made, seed, _shares(made, tested=False)).qrels
    both = replace(
        splits,
        queries=(*splits.queries, *made.queries),
        qrels={**splits.qrels, PSEUDO: pseudo["train"], PSEUDO_DEV: pseudo["dev"]},
    )
    note = f"{len(made.queries):,} {config.form} of the documents stand beside {train:,} labelled pairs; dev decides."
    return TrainingQuestions(both, "labelled and pseudo", train, real, (note,), dev)


def _documents_only(
    retrieval_set: RetrievalSet,
    given: Mapping[str, Qrels],
    labelled: int,
    config: PseudoQuestionConfig,
    seed: int,
    language: str,
) -> TrainingQuestions:
    made = _made(retrieval_set, config, seed, language)
    if len(made.queries) < max(config.fewest_labelled, 3):
        raise InputError(
            f"{retrieval_set.name} has {labelled} labelled pairs, and its {len(retrieval_set.documents):,} documents "
            f"gave {len(made.queries)} sentences that could stand in for questions.",
            remedy=f"Give at least {config.fewest_labelled} labelled pairs, or more documents with whole sentences.",
        )
    # Real questions, however few, are the better test; a dev split of enough of them decides.
    dev = _answered(given.get("dev", {}))
    dev = dev if pairs_of(dev) >= max(config.fewest_labelled, 1) else {}
    tests = [given["test"]] if "test" in given else [] if dev else given.values()
    real = {query: judged for qrels in tests for query, judged in _answered(qrels).items()}
    splits = split_by_document(made, seed, _shares(made, tested=not real))
    notes = [
        f"{labelled} labelled pairs to train and decide on (at least {config.fewest_labelled} are needed): "
        f"{len(made.queries):,} {config.form} of the documents stand in for questions."
        if not dev
        else f"No labelled pairs to train on: {len(made.queries):,} {config.form} of the documents stand in for "
        f"questions, and {len(dev):,} real dev questions decide."
    ]
    if real:
        notes.append(f"Tested on {len(real):,} real questions; none of them trained or decided anything.")
    else:
        notes.append(f"Nothing was verified on real questions: every figure below is of held-out {config.form}.")
    asked = dev.keys() | real.keys()
    splits = replace(
        splits,
        queries=(*splits.queries, *(query for query in retrieval_set.queries if query.id in asked)),
        qrels={**splits.qrels, **({"dev": dev} if dev else {}), **({"test": real} if real else {})},
    )
    return TrainingQuestions(splits, "pseudo", 0, len(real), tuple(notes), len(dev))


def _made(retrieval_set: RetrievalSet, config: PseudoQuestionConfig, seed: int, language: str) -> RetrievalSet:
    """The documents with nothing but pseudo-questions, all in one split."""
    made = sample_of(pseudo_questions(retrieval_set.documents, config.per_document, seed), config.most, seed)
    if config.form == "keywords":
        made = as_keywords(made, stop_words(language, every=True), seed)
    return replace(retrieval_set, queries=tuple(made.queries), qrels={"all": made.qrels})


def _shares(made: RetrievalSet, *, tested: bool) -> tuple[float, float, float]:
    held_out = min(0.1, HELD_OUT / len(made.queries))
    tests = held_out if tested else 0.0
    return 1.0 - held_out - tests, held_out, tests
