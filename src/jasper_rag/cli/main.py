"""`jasper`: the verbs, and what becomes of errors.

typer carries the command line: it is the most widely known of the typed libraries, answers `--help` without loading
anything heavy, and its token normalisation gives every flag both spellings (`--output-dir`, `--output_dir`).
"""

from __future__ import annotations

import sys

import typer

from jasper_rag.cli import demo, evaluate, export, fit, search
from jasper_rag.errors import InputError

INTERRUPTED = 130
"""Exit code of a program that was stopped with Ctrl-C."""

app = typer.Typer(
    name="jasper",
    help="Learn from known questions to search a frozen embedding index better, and never worse.\n\n"
    "Start with:  jasper fit --data DIR --output-dir runs/x   then   jasper search --run runs/x 'question'.\n\n"
    "Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
app.command("fit")(fit.fit)
app.command("search")(search.search)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("demo")(demo.demo)


@app.callback()
def _root() -> None:
    """Options common to every verb stand with the verbs."""


def main() -> None:
    """Run the command line; bad input is a message and exit code 2, an interrupt is 130."""
    try:
        app(prog_name="jasper")
    except InputError as error:
        sys.stderr.write(f"jasper: {error}\n")
        raise SystemExit(2) from error
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"jasper: {place}{error.strerror or error}\n")
        raise SystemExit(1) from error
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:  # typer has caught the interrupt
            sys.stderr.write("jasper: interrupted; finished work is kept, the same command goes on from there.\n")
        raise


if __name__ == "__main__":
    main()
