"""What to do about a prediction, in a sentence or three, from numbers that mean the same for every model.

A probability of a calibrated router is how often it is right; a quantile of atypicality is a share of the training
questions; a shift is a share of the prediction's length. Absolute distances and divergences mean nothing to a person,
and differ from one corpus to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SURE = 0.9
"""From here on a calibrated router errs once in ten questions or less: nobody needs to be asked."""

PROBABLE = 0.5
"""From here on the subspace is likelier than all others together."""

NAMED = 3
"""Subspaces named where it is unclear which is meant: as many as a person compares at a glance."""

WORTH_NAMING = 0.05
"""A subspace less likely than this is not offered: it would be the right one once in twenty questions."""

UNUSUAL = 0.95
"""Quantile of atypicality from which a question is called unusual: 1 in 20 of the training questions would be."""

FELT = 0.02
"""Share of its length by which steering must move a prediction to be worth a word: less changes a cosine by at most
0.02, about the distance between neighbouring results."""


class SignalFacts(NamedTuple):
    """What the advice for one question rests on.

    Args:
        names: The likeliest subspaces, best first, at least one.
        weights: Their probabilities.
        quantile: Share of the training pairs that are not more atypical; None where unknown.
        steered: Whether steering was given.
        unsteered: Name of the likeliest subspace without steering.
        shift: How far steering moved the prediction, as a share of its length.
    """

    names: Sequence[str]
    weights: Sequence[float]
    quantile: float | None = None
    steered: bool = False
    unsteered: str = ""
    shift: float = 0.0


def actionable_signal(facts: SignalFacts) -> str:
    """Advice for a person: how sure the topic is, whether the question is unusual, what steering did."""
    sentences = [_topic(facts.names, facts.weights)]
    if facts.quantile is not None and facts.quantile >= UNUSUAL:
        share = "all" if facts.quantile >= 1 else f"{int(100 * facts.quantile)} % of"
        sentences.append(f"More unusual than {share} training questions: check the answer, or add examples like it.")
    if facts.steered:
        sentences.append(_steering(facts))
    return " ".join(sentences)


def _topic(names: Sequence[str], weights: Sequence[float]) -> str:
    first, weight = names[0], weights[0]
    if weight >= SURE:
        return f"Surely about {first!r} ({_percent(weight)})."
    others = [
        f"{name!r} ({_percent(share)})"
        for name, share in zip(names[1:NAMED], weights[1:NAMED], strict=True)
        if share >= WORTH_NAMING
    ]
    if weight >= PROBABLE:
        return f"Probably about {first!r} ({_percent(weight)})" + (f", else {others[0]}." if others else ".")
    listed = ", ".join([f"{first!r} ({_percent(weight)})", *others[:-1]])
    if not others:
        return f"Unclear, at best {listed}: ask what is meant."
    return f"Unclear among {listed} and {others[-1]}: ask which is meant."


def _steering(facts: SignalFacts) -> str:
    if facts.unsteered != facts.names[0]:
        return f"Steering turned it from {facts.unsteered!r} to {facts.names[0]!r}."
    if facts.shift >= FELT:
        return f"Steering kept the topic and moved the prediction by {_percent(facts.shift)} of its length."
    return "Steering hardly changed the prediction."


def _percent(share: float) -> str:
    # Never "100 %" for what is not certain.
    whole = f"{100 * share:.0f} %"
    return "over 99 %" if whole == "100 %" and share < 1 else whole
