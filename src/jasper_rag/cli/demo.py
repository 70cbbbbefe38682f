"""`jasper demo`: the whole flow on the standard library of the Python that runs it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options

if TYPE_CHECKING:
    from jasper_rag.explain.report_data import Example, Hit
    from jasper_rag.jasper import Jasper

MAX_SEQ_LENGTH = 128
SHOWN = 3


def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Run directory to write.")] = Path("runs/demo"),
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Search the Python standard library by what its functions do.

    Every documented function becomes a document (its code) and a question (the first paragraph of its docstring).
    Trains, compares, and shows three test questions before and after: the one that gained most, one drawn by lot, and
    the one that lost most.
    """
    from jasper_rag.cli.fit import run_and_write
    from jasper_rag.jasper import Jasper
    from jasper_rag.jasper_config import load_config
    from jasper_rag.text.python_source import read_python_source

    # Sentences beside the real questions would double the demo's time; here they are lines of code.
    overrides = {"seed": seed, "encoder.max_seq_length": MAX_SEQ_LENGTH, "pseudo_questions.use": "never"}
    settings = load_config(overrides=overrides)
    with console.talking(quiet):
        console.say("reading the Python standard library: docstrings ask, code answers", quiet=quiet)
        library = read_python_source()
        jasper = run_and_write(
            lambda: Jasper.fit(library, config=settings, offline=offline), output_dir, as_json=False, quiet=quiet
        )
        for title, example in _examples(jasper):
            _print_example(title, example)


def _examples(jasper: Jasper) -> Iterator[tuple[str, Example]]:
    """Test questions, none of them trained on, with their hits before and after."""
    import numpy as np

    from jasper_rag.run_report import example

    record = jasper.record
    assert record is not None
    runs = record.comparison.runs
    change = runs[record.comparison.default].values["ndcg@10"] - runs["plain"].values["ndcg@10"]
    lot = int(np.random.default_rng(record.comparison.seed).integers(len(change)))
    chosen = {"the largest gain": int(change.argmax()), "by lot": lot, "the largest loss": int(change.argmin())}
    for title, row in chosen.items():
        yield title, example(record.comparison, record, row)


def _print_example(title: str, example: Example) -> None:
    print(f"\n{title}: {textwrap.shorten(example.question, 100)}")
    print(f"  {'question alone':<54}  with JASPER (* is the answer)")
    for rank, (one, other) in enumerate(zip(example.before[:SHOWN], example.after[:SHOWN], strict=False), start=1):
        print(f"  {rank}. {_name(one):<51}  {rank}. {_name(other)}")


def _name(hit: Hit) -> str:
    title = hit.title if len(hit.title) <= 49 else f"...{hit.title[-46:]}"
    return f"{'*' if hit.relevant else ' '} {title}"
