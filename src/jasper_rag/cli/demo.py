"""`jasper demo`: the whole flow on the standard library of the Python that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.cli import console, options

QUESTIONS = (
    "remove a directory and everything inside it",
    "how many seconds since the epoch",
    "turn a string with quotes into a list of shell arguments",
)
MAX_SEQ_LENGTH = 128


def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Run directory to write.")] = Path("runs/demo"),
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Search the Python standard library by what its functions do.

    Every documented function becomes a document (its code) and a question (the first paragraph of its docstring).
    Trains, compares, and shows three searches before and after.
    """
    from jasper_rag.cli.fit import fit_and_write
    from jasper_rag.jasper_config import load_config
    from jasper_rag.text.python_source import read_python_source

    settings = load_config(overrides={"seed": seed, "encoder.max_seq_length": MAX_SEQ_LENGTH})
    with console.talking(quiet):
        console.say("reading the Python standard library: docstrings ask, code answers", quiet=quiet)
        jasper = fit_and_write(read_python_source(), settings, output_dir, as_json=False, quiet=quiet, offline=offline)
        for question in QUESTIONS:
            before, after = jasper.search(question, 3, "plain"), jasper.search(question, 3)
            print(f"\n{question}")
            print(f"  {'question alone':<52}  with JASPER")
            for one, other in zip(before, after, strict=True):
                print(f"  {one.rank}. {one.document.title[:49]:<49}  {other.rank}. {other.document.title}")
