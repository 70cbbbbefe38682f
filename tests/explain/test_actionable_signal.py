from __future__ import annotations

import pytest

from jasper_rag.explain.actionable_signal import SignalFacts, actionable_signal

NAMES = ("poland", "rivers", "kings")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((1.0, 0.0, 0.0), "Surely about 'poland' (100 %)."),
        ((0.999, 0.001, 0.0), "Surely about 'poland' (over 99 %)."),
        ((0.9, 0.1, 0.0), "Surely about 'poland' (90 %)."),
        ((0.7, 0.2, 0.1), "Probably about 'poland' (70 %), else 'rivers' (20 %)."),
        ((0.8, 0.04, 0.03), "Probably about 'poland' (80 %)."),
        (
            (0.4, 0.35, 0.25),
            "Unclear among 'poland' (40 %), 'rivers' (35 %) and 'kings' (25 %): ask which is meant.",
        ),
        ((0.48, 0.06, 0.01), "Unclear among 'poland' (48 %) and 'rivers' (6 %): ask which is meant."),
        ((0.05, 0.04, 0.04), "Unclear, at best 'poland' (5 %): ask what is meant."),
    ],
)
def test_the_topic_is_as_sure_as_its_probability(weights: tuple[float, ...], said: str) -> None:
    assert actionable_signal(SignalFacts(NAMES, weights)) == said


@pytest.mark.parametrize(
    ("quantile", "said"),
    [
        (None, ""),
        (0.94, ""),
        (0.95, " More unusual than 95 % of training questions: check the answer, or add examples like it."),
        (0.999, " More unusual than 99 % of training questions: check the answer, or add examples like it."),
        (1.0, " More unusual than all training questions: check the answer, or add examples like it."),
    ],
)
def test_an_unusual_question_is_called_so(quantile: float | None, said: str) -> None:
    facts = SignalFacts(("one",), (1.0,), quantile)
    assert actionable_signal(facts) == "Surely about 'one' (100 %)." + said


@pytest.mark.parametrize(
    ("unsteered", "shift", "said"),
    [
        ("rivers", 0.0, "Steering turned it from 'rivers' to 'poland'."),
        ("poland", 0.31, "Steering kept the topic and moved the prediction by 31 % of its length."),
        ("poland", 0.019, "Steering hardly changed the prediction."),
    ],
)
def test_steering_is_told_by_what_it_did(unsteered: str, shift: float, said: str) -> None:
    facts = SignalFacts(NAMES, (0.95, 0.03, 0.02), None, True, unsteered, shift)
    assert actionable_signal(facts).endswith(said)
