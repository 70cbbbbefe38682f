"""`scripts/download_msmarco.py`: MS MARCO's questions as pairs to train an encoder on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options

if TYPE_CHECKING:
    from jasper_rag.text.msmarco_pairs import MarcoPairs

TRAIN, DEV, TEST = "train.json", "dev.json", "test_eval.json"


def msmarco(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--output-dir",
            parser=options.named_path,
            metavar="<path>",
            help="Folder to write. [default: data/processed/msmarco]",
        ),
    ] = None,
    num_examples: Annotated[
        int | None,
        typer.Option("--num-examples", "--max-train-samples", min=1, help="Questions for training. [default: all]"),
    ] = None,
    max_dev_samples: Annotated[
        int | None, typer.Option("--max-dev-samples", min=1, help="For dev, and as many for the test. [default: all]")
    ] = None,
    split_ratio: Annotated[
        float, typer.Option("--split-ratio", help="Share of the training questions trained on; the rest is dev.")
    ] = 1.0,
    config: Annotated[str, typer.Option("--config", help="Release: v1.1 (82,000 questions) or v2.1.")] = "v1.1",
    source: Annotated[
        Path | None, typer.Option("--source", help="Downloaded .parquet or .jsonl, or a folder, instead of the hub.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Stream MS MARCO from the Hugging Face hub and write train.json, dev.json and test_eval.json.

    The positive of a question is its selected passage, the negative one that was found and not selected. What was
    interrupted goes on where it stopped. The set without its answers, in BEIR's form: jasper fetch msmarco.

    Example:  python scripts/download_msmarco.py --output data/processed/msmarco --num_examples 50000
    """
    from jasper_rag.atomic_files import replacing_entries, require_writable
    from jasper_rag.file_locks import exclusive
    from jasper_rag.text.msmarco_download import collect_msmarco, forget_partial
    from jasper_rag.text.pair_files import write_evaluation_set, write_examples

    output = output or Path("data/processed/msmarco")
    require_writable(output)
    # The hub's client reports every attempt at every address; what could not be had is said once, at the end.
    retries = console.hushed("huggingface_hub.utils._http", logging.ERROR)
    with console.talking(quiet), retries, exclusive(output, "fetching into this directory"):
        found = collect_msmarco(
            output,
            config,
            source=source,
            most_train=num_examples,
            most_dev=max_dev_samples,
            split_ratio=split_ratio,
        )
        with replacing_entries(output) as folder:
            write_examples(folder / TRAIN, found.train)
            if found.dev:
                write_examples(folder / DEV, found.dev)
            if found.test is not None:
                write_evaluation_set(folder / TEST, found.test)
        forget_partial(output)
    _show(found, output, quiet=quiet)


def _show(found: MarcoPairs, output: Path, *, quiet: bool) -> None:
    print(f"{output / TRAIN}: {len(found.train):,} pairs")
    if found.dev:
        print(f"{output / DEV}: {len(found.dev):,} pairs")
    if found.test is not None:
        print(f"{output / TEST}: {len(found.test.queries):,} questions on {len(found.test.corpus):,} passages")
    for reason, count in found.dropped.items():
        print(f"dropped: {count:,} {reason}")
    console.say_how_to_train(output / TRAIN, output / DEV if found.dev else None, quiet=quiet)
