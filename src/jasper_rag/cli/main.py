"""`jasper`: the verbs, and what becomes of errors.

typer carries the command line: it is the most widely known of the typed libraries, answers `--help` without loading
anything heavy, and its token normalisation gives every flag both spellings (`--output-dir`, `--output_dir`).
"""

from __future__ import annotations

import errno
import io
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import typer

from jasper_rag.atomic_files import NO_ROOM
from jasper_rag.cli import (
    build,
    console,
    corpus,
    demo,
    evaluate,
    evaluate_encoder,
    explain,
    export,
    fetch,
    fit,
    inspect,
    mine,
    prepare,
    search,
    train,
    train_encoder,
)
from jasper_rag.errors import InputError

_LOOKS: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
}

app = typer.Typer(
    name="jasper",
    help="Learn from known questions to search a frozen embedding index better, and never worse.\n\n"
    "Start with:  jasper fit --data DIR --output-dir runs/x   then   jasper search --run runs/x 'question'.\n\n"
    "Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    **_LOOKS,
)
app.command("fetch")(fetch.fetch)
app.command("fit")(fit.fit)
app.command("build")(build.build)
app.command("train")(train.train)
app.command("train-encoder")(train_encoder.train_encoder)
app.command("prepare")(prepare.prepare)
app.command("inspect")(inspect.inspect)
app.command("mine")(mine.mine)
app.command("search")(search.search)
app.command("explain")(explain.explain)
app.command("add")(corpus.add)
app.command("remove")(corpus.remove)
app.command("evaluate")(evaluate.evaluate)
app.command("evaluate-encoder")(evaluate_encoder.evaluate_encoder)
app.command("export")(export.export)
app.command("demo")(demo.demo)


@app.callback()
def _root() -> None:
    """Options common to every verb stand with the verbs."""


def main() -> None:
    """Run the command line."""
    run(app, "jasper")


def run_verb(verb: Callable[..., None], name: str, *flags: str) -> None:
    """Run one verb as a program of its own, such as a script under `examples/`; with these flags before those given."""
    alone = typer.Typer(add_completion=False, **_LOOKS)
    alone.command()(verb)
    run(alone, name, *flags)


def run(program: typer.Typer, name: str, *flags: str) -> None:
    """Run a program; bad input is a message and exit code 2, a fault of the system 1, an interrupt 130."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of another encoding shows what it cannot write as an escape, not as an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if name.endswith(".py") and any(argument.isspace() for argument in sys.argv[1:]):
            remedy = "The \\ that continues a line must be its very last character: no space, no comment behind it."
            raise InputError("an argument is a space and nothing else.", remedy=remedy)
        _command(program)(args=[*flags, *sys.argv[1:]], prog_name=name)
    except InputError as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(2) from error
    except OSError as error:
        sys.stderr.write(f"{name}: {_fault(error)}\n")
        raise SystemExit(1) from error
    except SystemExit as leaving:
        if isinstance(leaving, console.Interrupted):
            sys.stderr.write(f"{name}: {leaving.message}\n")
        elif leaving.code == console.INTERRUPTED:  # typer has caught the interrupt
            sys.stderr.write(f"{name}: interrupted; finished work is kept, the same command goes on from there.\n")
        raise


@cache
def _command(program: typer.Typer) -> Callable[..., Any]:
    """What typer makes of the verbs' signatures; it takes a twentieth of a second, and a process may run many."""
    return typer.main.get_command(program)


def _fault(error: OSError) -> str:
    """What the system refused, and where; with a way out where there is no room."""
    place = "" if error.filename is None else f"{error.filename}: "
    said = f"{place}{error.strerror or error}"
    if error.errno not in NO_ROOM:
        return said
    if place and error.errno == errno.ENOSPC:
        path = Path(str(error.filename)).absolute()
        free = shutil.disk_usage(next(above for above in (path, *path.parents) if above.exists())).free
        said += f": it takes more than the {free / 1e6:,.1f} MB that are free there"
    return (
        f"{said}.\n  Make room, then give the same command again: what stood there before is as it was, and finished "
        "embeddings are kept."
    )


if __name__ == "__main__":
    main()
