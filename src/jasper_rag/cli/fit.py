"""`jasper fit`: embed, train, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options

if TYPE_CHECKING:
    from jasper_rag.jasper import Jasper
    from jasper_rag.jasper_config import JasperConfig
    from jasper_rag.text.records import RetrievalSet


def fit(
    data: Annotated[str, typer.Option("--data", help="BEIR folder, JSONL, CSV, Parquet, text folder, hf:owner/name.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Run directory to write.")],
    encoder: options.EncoderName = None,
    config: options.Config = None,
    seed: options.Seed = None,
    max_seq_length: options.MaxLength = None,
    language: options.Language = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Train on documents with known questions; write a run directory.

    Embeds every text once (cached), learns to move a question's embedding to its answer's, keeps the plain encoder
    wherever that is better on dev, compares all of it on the test split, and writes model, metrics, TREC run files
    and report.html.

    Example:  jasper fit --data data/scifact --output-dir runs/scifact
    """
    from jasper_rag.jasper_config import load_config
    from jasper_rag.text.readers import read_retrieval_set

    overrides = {
        "encoder.name": encoder,
        "encoder.max_seq_length": max_seq_length,
        "language": language,
        "seed": seed,
    }
    settings = load_config(config, overrides)
    with console.talking(quiet):
        retrieval_set = read_retrieval_set(data)
        fit_and_write(retrieval_set, settings, output_dir, as_json=as_json, quiet=quiet, offline=offline)


def fit_and_write(
    retrieval_set: RetrievalSet,
    settings: JasperConfig,
    output_dir: Path,
    *,
    as_json: bool,
    quiet: bool,
    offline: bool,
) -> Jasper:
    """The work of `jasper fit` once the documents are read: train, write, print the table and what to type next."""
    from jasper_rag.jasper import Jasper
    from jasper_rag.run_directory import REPORT, facts, next_commands, require_usable, write_fit
    from jasper_rag.text.splitting import ensure_splits

    require_usable(output_dir)
    with_splits = ensure_splits(retrieval_set, settings.seed)
    console.say(f"{with_splits.name}: {len(with_splits.documents):,} documents, {_counts(with_splits)}", quiet=quiet)
    jasper = Jasper.fit(with_splits, config=settings, offline=offline)
    record = jasper.record
    assert record is not None
    metrics = write_fit(jasper, record, with_splits, output_dir)
    for name, value in facts(jasper, record).items():
        console.say(f"  {name}: {value}", quiet=quiet)
    console.say(quiet=quiet)
    if as_json:
        console.put_json(metrics)
    else:
        console.put_comparison(metrics)
    console.say(f"\nreport: {output_dir / REPORT}", quiet=quiet)
    console.say("next:", quiet=quiet)
    for command in next_commands(output_dir):
        console.say(f"  {command}", quiet=quiet)
    return jasper


def _counts(retrieval_set: RetrievalSet) -> str:
    return ", ".join(f"{len(qrels):,} {split} questions" for split, qrels in retrieval_set.qrels.items())
