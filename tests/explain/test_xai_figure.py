from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.explain.xai_figure import visualize_explanation
from jasper_rag.explain.xai_interface import XAIInterface


def explanation(topics: int = 12, **changes: Any) -> dict[str, Any]:
    weights = [2.0**-place for place in range(1, topics)] + [2.0 ** -(topics - 1)]
    return {
        "primary_subspace": "topic 0",
        "routing_distribution": {f"topic {place}": weight for place, weight in enumerate(weights)},
        "actionable_signal": "Probably about 'topic 0' (50 %), else 'topic 1' (25 %). " * 3,
        "atypicality_quantile": 0.97,
        "similar_known_pairs": [
            {"similarity": 0.91, "index": 3, "question": "costs $5 or $6?", "source": "Prices", "source_id": "s3"},
            {"similarity": 0.72, "index": 4, "question": "", "question_id": "q4", "source": "", "source_id": "s4"},
        ],
        **changes,
    }


def said(figure: Any) -> list[str]:
    return [text.get_text() for part in (figure, *figure.axes) for text in part.texts]


def test_it_shows_topics_pairs_and_what_to_do(tmp_path: Path) -> None:
    figure = visualize_explanation(explanation(), "What does it cost?", tmp_path / "plots" / "one.png")
    texts = said(figure)
    for expected in ("What does it cost?", "topic 0", "50 %", "4 other topics", "< 1 %", "0.91", "costs $5 or $6?"):
        assert expected in texts
    assert {"question q4", "source s4", "Prices"} <= set(texts)
    assert (tmp_path / "plots" / "one.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["one.png"]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.slow
def test_bars_are_as_long_as_the_weights_likely() -> None:
    figure = visualize_explanation(explanation(3))
    widths = [patch.get_width() for patch in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == [1, 0.5, 1, 0.25, 1, 0.25]


@pytest.mark.slow
def test_what_is_not_known_takes_no_room() -> None:
    whole = visualize_explanation(explanation())
    bare = visualize_explanation(explanation(atypicality_quantile=None, similar_known_pairs=[]))
    assert bare.get_figheight() < whole.get_figheight()
    assert "Topic: topic 0" in said(bare)
    assert not any("training" in text or "Known" in text for text in said(bare))


@pytest.mark.slow
def test_one_topic_more_than_shown_keeps_its_name() -> None:
    assert "topic 8" in said(visualize_explanation(explanation(9)))


@pytest.mark.slow
def test_other_formats(tmp_path: Path) -> None:
    XAIInterface.visualize_explanation(explanation(), save_path=tmp_path / "one.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="docx"):
        visualize_explanation(explanation(), save_path=tmp_path / "one.docx")
    assert [path.name for path in tmp_path.iterdir()] == ["one.svg"]
