"""What people see: stdout is data, stderr is talk."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.explain.report_data import system_results
from jasper_rag.progress import quiet as no_bars

INTERRUPTED = 130
"""Exit code of a program that was stopped with Ctrl-C."""


class Interrupted(SystemExit):
    """Ctrl-C, with what it left and how to go on."""

    def __init__(self, message: str) -> None:
        super().__init__(INTERRUPTED)
        self.message = message


@contextmanager
def talking(quiet: bool) -> Iterator[None]:
    """Log the library's own messages to stderr, or nothing below a warning when `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("jasper_rag")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        with no_bars(quiet):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def hushed(logger_name: str, least: int) -> Iterator[None]:
    """One logger says nothing below the level `least`."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(level)


def say(text: str = "", *, quiet: bool = False) -> None:
    """One line of talk on stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def call_of(verb: str) -> str:
    """How to call another verb of the encoder's: as a script where this command is one, else through `jasper`."""
    scripts = {"prepare": "prepare_data.py", "train-encoder": "train.py", "evaluate-encoder": "evaluate.py"}
    return f"python scripts/{scripts[verb]}" if sys.argv[0].endswith(".py") else f"jasper {verb}"


def say_how_to_train(train: Path, val: Path | None, *, quiet: bool) -> None:
    """The command that trains an encoder on pairs that were just written, on stderr."""
    flags = f"--train_data {shlex.quote(str(train))}"
    if val is not None:
        flags += f" --val_data {shlex.quote(str(val))}"
    say(f"\nnext:\n  {call_of('train-encoder')} {flags} --epochs 3", quiet=quiet)


def put_json(value: Any) -> None:
    """Data as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def put_comparison(metrics: Mapping[str, Any]) -> None:
    """The comparison, what a topic is worth where that was measured, and the verdict on stdout."""
    title = f"{metrics['dataset']}, {metrics['split']} split: {metrics['questions']:,} questions"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("system", no_wrap=True)
    for name in ("nDCG@10", "95 % interval", "R@10", "MRR@10", "p vs plain", "train s"):
        table.add_column(name, justify="right", no_wrap=True)
    results = system_results(metrics)
    best = max(result.ndcg for result in results)
    for result in results:
        known = result.low is not None and result.high is not None
        table.add_row(
            result.name,
            f"{result.ndcg:.3f}",
            f"{result.low:.3f}-{result.high:.3f}" if known else "",
            _figure(result.recall, 3),
            _figure(result.mrr, 3),
            _figure(result.p_value, 4),
            _figure(result.train_seconds or None, 1),
            style="bold" if result.ndcg == best else "",
        )
    # Piped output has no terminal to ask for its width; the table must not be folded there. Names are not markup.
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(table)
    _put_steering_modes(metrics.get("steering_modes"), console)
    console.print(f"\n{metrics['verdict']}", soft_wrap=True)


def put_steering(metrics: Mapping[str, Any]) -> None:
    """Ranking metrics by steering variant on stdout, the plain question first."""
    table = Table(title=f"{metrics['split']} split", title_justify="left", box=None)
    table.add_column("asked with", no_wrap=True)
    for name in ("nDCG@10", "R@10", "MRR@10"):
        table.add_column(name, justify="right", no_wrap=True)
    for ending, name in _MODES.items():
        if f"ndcg@10{ending}" in metrics:
            figures = (f"{metrics[f'{measure}@10{ending}']:.3f}" for measure in ("ndcg", "recall", "mrr"))
            table.add_row(name, *figures, style="bold" if not ending else "")
    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


_MODES = {
    "_question": "the question itself",
    "": "the prediction, no steering",
    "_centroid": "steered to the answer's topic (upper bound)",
    "_keyword": "steered by the answer's keywords (upper bound)",
    "_residual": "residual steering (upper bound)",
}
"""Ending of a metric's name -> what was asked with."""


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _put_steering_modes(modes: Mapping[str, Any] | None, console: Console) -> None:
    if modes is None:
        return
    console.print(
        f"\nasked with one of {modes['topics']} topics: the router's first is right for "
        f"{modes['router_accuracy@1']:.0%} (nearest centroid: {modes['nearest_centroid_accuracy@1']:.0%}), one of "
        f"three for {modes['router_accuracy@3']:.0%} ({modes['nearest_centroid_accuracy@3']:.0%})",
        soft_wrap=True,
    )
    table = Table(box=None)
    table.add_column("topic", no_wrap=True)
    for name in ("nDCG@10", "R@10", "MRR@10", "prediction alone"):
        table.add_column(name, justify="right", no_wrap=True)
    for mode, name in STEERING_NAMES.items():
        figures, alone = modes["search"][mode], modes["modes"][mode]
        shown = [figures["ndcg@10"], figures["recall@10"], figures["mrr@10"], alone["ndcg@10"]]
        table.add_row(name, *(f"{value:.3f}" for value in shown))
    console.print(table)


def put_topics(topics: Sequence[tuple[Any, float | None]], *, as_json: bool = False) -> None:
    """Topics on stdout, one a line: number, weight where there is one, name, documents."""
    if as_json:
        put_json({"topics": topics_as_json(topics)})
        return
    for topic, weight in topics:
        share = "" if weight is None else f"{weight:6.1%}  "
        print(f"{f'#{topic.number}':>4}  {share}{topic.name}  ({topic.documents:,})")
    print()


def topics_as_json(topics: Sequence[tuple[Any, float | None]]) -> list[dict[str, Any]]:
    """Topics as plain values; `weight` where there is one."""
    return [
        {"number": t.number, "name": t.name, "terms": list(t.terms), "documents": t.documents}
        | ({} if weight is None else {"weight": weight})
        for t, weight in topics
    ]


def put_hits(hits: Sequence[Any]) -> None:
    """Search hits on stdout: rank, score, id, title, and the beginning of the text."""
    for hit in hits:
        document = hit.document
        title = f"  {document.title}" if document.title and document.title != document.id else ""
        print(f"{hit.rank:>3}  {hit.score:7.3f}  {document.id}{title}")
        if text := hit.passage or document.text:
            print(textwrap.shorten(text, 160, placeholder=" ..."), end="\n\n")


def hits_as_json(hits: Sequence[Any]) -> list[dict[str, Any]]:
    """Search hits as plain values; `passage` where documents were cut into some."""
    return [
        {"rank": h.rank, "score": h.score, "id": h.document.id, "title": h.document.title, "text": h.document.text}
        | ({"passage": h.passage} if h.passage else {})
        for h in hits
    ]
