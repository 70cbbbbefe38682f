"""Pairs and a test set made of MS MARCO's questions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import normalised
from jasper_rag.text.msmarco import JudgedQuestion
from jasper_rag.text.pair_files import EvaluationSet, TrainingExample

_HELD = 0.1


@dataclass(frozen=True, slots=True)
class MarcoPairs:
    """What becomes of the questions.

    Args:
        train: Pairs to train on.
        dev: Pairs to choose a model by.
        test: Questions asked of all passages of the questions held out for it; None without one.
        dropped: Reason -> number of questions left out.
    """

    train: tuple[TrainingExample, ...]
    dev: tuple[TrainingExample, ...]
    test: EvaluationSet | None
    dropped: Mapping[str, int]


def marco_pairs(
    train: Sequence[JudgedQuestion], held: Sequence[JudgedQuestion], split_ratio: float = 1.0
) -> MarcoPairs:
    """Make pairs of the questions for training, and dev and test of those held out.

    A question whose text or selected passage stands in an earlier part is left out of the later one. Half of `held`
    (by a hash of the question) is dev; with a `split_ratio` below 1, dev is the rest of `train` instead, and all of
    `held` is for the test.

    Args:
        train: Of the train split.
        held: Of the validation split.
        split_ratio: Share of `train` that is trained on, in (0, 1].

    Raises:
        InputError: A ratio outside, or nothing to train on.
    """
    if not 0 < split_ratio <= 1:
        remedy = "Give a share of more than 0 and at most 1."
        raise InputError(f"the ratio is {split_ratio:g}.", remedy=remedy, field="split_ratio")
    ordered = sorted(train, key=_draw) if split_ratio < 1 else list(train)
    cut = max(round(split_ratio * len(ordered)), 1)
    later = sorted(held, key=_draw)
    dev = ordered[cut:] if split_ratio < 1 else later[: len(later) // 2]
    test = later if split_ratio < 1 else later[len(later) // 2 :]
    seen: set[str] = set()
    parts = []
    dropped: Counter[str] = Counter()
    for questions in (ordered[:cut], dev, test):
        new = [question for question in questions if not seen & _keys(question)]
        first: dict[str, JudgedQuestion] = {}
        for question in new:
            first.setdefault(normalised(question.query), question)
        distinct = list(first.values())
        dropped["questions that stand in an earlier split, or share its passage"] += len(questions) - len(new)
        dropped["questions asked twice"] += len(new) - len(distinct)
        seen.update(*(_keys(question) for question in distinct))
        parts.append(distinct)
    if not parts[0]:
        raise InputError("no question with a selected passage.", remedy="Read more rows: a larger --num-examples.")
    pairs, validation = (tuple(_example(question) for question in part) for part in parts[:2])
    found = {reason: count for reason, count in dropped.items() if count}
    return MarcoPairs(pairs, validation, _evaluation(parts[2]), found)


def held_out(questions: Sequence[JudgedQuestion]) -> tuple[list[JudgedQuestion], list[JudgedQuestion]]:
    """Part a tenth, by a hash of the question, from the rest: for a source that has no validation split."""
    ordered = sorted(questions, key=_draw)
    cut = len(ordered) - round(_HELD * len(ordered))
    held = set(map(id, ordered[cut:]))
    return [question for question in questions if id(question) not in held], ordered[cut:]


def _draw(question: JudgedQuestion) -> bytes:
    return hashlib.sha256(question.query.encode("utf-8", "surrogatepass")).digest()


def _keys(question: JudgedQuestion) -> set[str]:
    return {f"q {normalised(question.query)}", *(f"p {normalised(text)}" for text in question.positives)}


def _example(question: JudgedQuestion) -> TrainingExample:
    return TrainingExample(question.query, question.positives[0], next(iter(question.negatives), ""))


def _evaluation(questions: Sequence[JudgedQuestion]) -> EvaluationSet | None:
    if not questions:
        return None
    rows: dict[str, int] = {}
    corpus: list[str] = []
    for question in questions:
        for text in (*question.positives, *question.negatives):
            if rows.setdefault(normalised(text), len(corpus)) == len(corpus):
                corpus.append(text)
    relevance = (tuple(dict.fromkeys(rows[normalised(text)] for text in one.positives)) for one in questions)
    return EvaluationSet(tuple(corpus), tuple(question.query for question in questions), tuple(relevance))
