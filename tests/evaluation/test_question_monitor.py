from __future__ import annotations

import numpy as np

from jasper_rag.evaluation.question_monitor import FEWEST, QuestionMonitor


def test_counts_closed_gates_only() -> None:
    monitor = QuestionMonitor(expected=0.05)
    monitor.add(np.array([0.0, 0.2, 1.0, 0.0]))
    assert (monitor.questions, monitor.outside, monitor.drifted) == (4, 0.5, False)
    assert "fewer than 50 questions say little" in monitor.line()


def test_only_recent_questions_count() -> None:
    monitor = QuestionMonitor(expected=0.05, window=100)
    monitor.add(np.zeros(100))
    assert monitor.drifted
    assert "100% of the last 100 questions are outside the gate" in monitor.line()
    assert "run `jasper fit` again" in monitor.line()
    monitor.add(np.ones(95))
    assert (monitor.questions, monitor.outside, monitor.drifted) == (100, 0.05, False)
    assert monitor.line().endswith("(about 5% are to be expected).")


def test_a_refit_is_advised_from_three_times_the_expected_share() -> None:
    for closed, advised in ((8, False), (9, True)):
        monitor = QuestionMonitor(expected=0.05)
        monitor.add(np.repeat([0.0, 1.0], [closed, FEWEST + 5 - closed]))
        assert monitor.drifted is advised


def test_no_questions_are_no_drift() -> None:
    monitor = QuestionMonitor()
    assert (monitor.outside, monitor.drifted) == (0.0, False)
