"""An explained search on stdout, at 80 columns: topics, hits part by part, what would change, what is known."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.text import Text

from jasper_rag.explain.search_explanation import Counterfactual, HitExplanation, SearchExplanation, TopicShare
from jasper_rag.text.records import Document

_PIPED, _WIDEST = 80, 100
"""Columns where there is no terminal to ask, and of a wider terminal."""

_TOPICS, _LISTED = 4, 3
"""Topics with a bar of their own; known questions, and changed documents either way, that are listed."""

_NAME, _BAR = 34, 28
"""Columns of a topic's name, and of its bar."""

_INDENT = 6

_PARTS: Mapping[str, tuple[str, str, str]] = {
    "question": ("question", "█", "white"),
    "coarse": ("topics", "▓", "green"),
    "fine": ("training", "▒", "yellow"),
    "steering": ("steering", "░", "magenta"),
    "words": ("words", "▚", "cyan"),
    "topic_bonus": ("chosen", "+", "red"),
}
"""Part of a score -> its name for people, what it is drawn with, and its colour; the level is the same for all hits."""


def put_explanation(found: SearchExplanation) -> None:
    """An explanation on stdout; without colours where that is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else _PIPED, highlight=False, markup=False, emoji=False)
    if console.width > _WIDEST:
        console.width = _WIDEST
    console.print(found.question, style="bold")
    for part in (
        _topics(found),
        _hits(found, console.width),
        _change(found.counterfactual),
        _known(found, console.width),
    ):
        lines = list(part)
        if lines:
            console.print()
        for line in lines:
            console.print(line)
    console.print()
    told = "\n".join(textwrap.wrap(f"What to do: {found.actionable_signal}", console.width))
    advice = Text(told)
    advice.stylize("bold", 0, len("What to do:"))
    console.print(advice)


def _topics(found: SearchExplanation) -> Iterator[Text]:
    if not found.topics:
        return
    yield _head("Topics", "how probable each is; calibrated on held-out questions")
    for topic in found.topics[:_TOPICS]:
        yield _topic(topic)
    rest = found.topics[_TOPICS:]
    if rest:
        left = sum(topic.probability for topic in rest)
        yield Text(f"      {f'{len(rest)} other topics':<{_NAME}} {'':<{_BAR}} {_percent(left)}", style="dim")
    if found.atypicality_quantile is not None:
        share = _percent(found.atypicality_quantile).strip().replace(">", "over ")
        yield Text(f"  More unusual than {share} of usual questions.")
    if found.ranker != "plain":
        share = f"The guard let {_percent(found.opened).strip()} of the prediction in."
        yield Text("  Steered past the guard." if found.steering_shift > 0 else f"  {share}")


def _topic(topic: TopicShare) -> Text:
    name = textwrap.shorten(topic.name, _NAME, placeholder=" …")
    filled = round(_BAR * topic.probability)
    line = Text(f"  {f'#{topic.row + 1}':<4}{name:<{_NAME}} ")
    line.append("█" * filled, style="green").append("·" * (_BAR - filled), style="dim")
    return line.append(f" {_percent(topic.probability)}")


def _hits(found: SearchExplanation, width: int) -> Iterator[Text]:
    used = [name for name in _PARTS if any(abs(hit.parts[name]) >= _least(found) for hit in found.hits)]
    legend = Text(" ")
    for name in used:
        said, drawn, colour = _PARTS[name]
        legend.append(" ").append(drawn, style=colour).append(f" {said}")
    yield _head("Hits", "each score is the sum of its parts")
    yield legend
    sums = [sum(max(hit.parts[name], 0.0) for name in used) for hit in found.hits]
    unit = (width - _INDENT - 1) / max([*sums, 1e-9])
    for hit in found.hits:
        yield Text(f"{hit.rank:>3}  {hit.score:7.3f}  ") + Text(_shown(hit.document, width - 14), style="bold")
        if text := hit.passage or (hit.document.text if hit.document.title else ""):
            yield Text(" " * _INDENT + textwrap.shorten(text, width - _INDENT, placeholder=" …"))
        yield Text(" " * _INDENT) + _stacked(hit, used, unit)
        told = "  ".join(f"{_PARTS[name][0]} {_signed(hit.parts[name], found.ranker)}" for name in used)
        yield Text(
            "\n".join(textwrap.wrap(told, width, initial_indent=_INDENT * " ", subsequent_indent=_INDENT * " ")),
            style="dim",
        )
    level = found.hits[0].parts["level"] if found.hits else 0.0
    if abs(level) >= _least(found):
        taken = "taken off" if level < 0 else "added to"
        yield Text(f"  {abs(level):.2f} is {taken} every score: the mean over all documents.", style="dim")


def _stacked(hit: HitExplanation, used: list[str], unit: float) -> Text:
    bar, end, drawn = Text(), 0.0, 0
    for name in used:
        end += max(hit.parts[name], 0.0) * unit
        bar.append(_PARTS[name][1] * (round(end) - drawn), style=_PARTS[name][2])
        drawn = round(end)
    return bar


def _change(found: Counterfactual | None) -> Iterator[Text]:
    if found is None:
        return
    yield _head("Without the topic", found.topic)
    if not found.leave and not found.enter:
        yield Text("  the same documents would be found.")
    for word, changed in (("gone", found.leave), ("new", found.enter)):
        for rank, document in changed[:_LISTED]:
            yield Text(f"  {word:<5}{rank:>3}  {_shown(document, 66)}")
        if len(changed) > _LISTED:
            yield Text(f"  {word:<5}     and {len(changed) - _LISTED} more", style="dim")


def _known(found: SearchExplanation, width: int) -> Iterator[Text]:
    if not found.similar_known_pairs:
        return
    yield _head("Known questions like it", "and what answers them")
    for pair in found.similar_known_pairs[:_LISTED]:
        asked = textwrap.shorten(pair.question, 150, placeholder=" …") or pair.question_id
        lines = textwrap.wrap(asked, width - 8)
        yield Text(f"  {pair.similarity:.2f}  " + "\n        ".join(lines))
        answer = _shown(pair.documents[0], 60) if pair.documents else "no longer in the corpus"
        more = f" and {len(pair.documents) - 1} more" if len(pair.documents) > 1 else ""
        yield Text(f"        → {answer}{more}", style="dim")


def _head(title: str, rest: str) -> Text:
    return Text(title, style="bold").append(f"  {rest}", style="dim not bold")


def _shown(document: Document, columns: int) -> str:
    named = f"{document.id} · {document.title}" if document.title and document.title != document.id else document.id
    told = named if document.title else f"{document.id} · {document.text}"
    return textwrap.shorten(told, columns, placeholder=" …")


def _least(found: SearchExplanation) -> float:
    """Parts below what is shown of a score are left out."""
    return 0.0005 if _dense(found.ranker) else 0.005


def _dense(ranker: str) -> bool:
    return ranker != "hybrid"


def _signed(value: float, ranker: str) -> str:
    return f"{value:.3f}" if _dense(ranker) else f"{value:.2f}"


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "<1 %"
    return f"{100 * share:3.0f} %" if share >= 1 or share < 0.995 else ">99 %"
