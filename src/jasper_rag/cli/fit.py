"""`jasper fit`: embed, train, evaluate, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, given_files, options
from jasper_rag.cli.columns import Columns, parse_columns
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.jasper import Jasper
    from jasper_rag.jasper_config import JasperConfig


def fit(
    output_dir: options.OutputDir,
    data: Annotated[
        str | None, typer.Option("--data", help="BEIR folder, JSONL, CSV, Parquet, text folder, hf:owner/name.")
    ] = None,
    columns: Columns = None,
    vectors: given_files.Vectors = None,
    ids: given_files.Ids = None,
    query_vectors: given_files.QueryVectors = None,
    query_ids: given_files.QueryIds = None,
    qrels: given_files.Qrels = None,
    encoder: options.EncoderName = None,
    config: options.Config = None,
    seed: options.Seed = None,
    max_seq_length: options.MaxLength = None,
    language: options.Language = None,
    chunk: options.Chunk = None,
    chunk_size: options.ChunkSize = None,
    chunk_overlap: options.ChunkOverlap = None,
    pseudo_questions: options.PseudoQuestions = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Train on documents and, if there are any, questions with known answers; write a run directory.

    Embeds every text once (cached), learns to move a question's embedding to its answer's, keeps the plain encoder
    wherever that is better on dev, compares all of it on the test split, and writes model, metrics, TREC run files
    and report.html. Documents without questions train on their own sentences. Vectors of your own need no encoder.

    Example:  jasper fit --data data/scifact --output-dir runs/scifact

    Example:  jasper fit --vectors docs.npy --ids ids.txt --query-vectors q.npy --qrels qrels.tsv --output-dir runs/x
    """
    from jasper_rag.jasper_config import load_config

    overrides = {
        "encoder.name": encoder,
        "encoder.max_seq_length": max_seq_length,
        "language": language,
        "seed": seed,
        "chunking.how": chunk,
        "chunking.size": chunk_size,
        "chunking.overlap": chunk_overlap,
        "pseudo_questions.use": pseudo_questions,
    }
    settings = load_config(config, overrides)
    given = given_files.GivenFiles(vectors, ids, query_vectors, query_ids, qrels)
    with console.talking(quiet):
        if given.any():
            train = given.training(data, parse_columns(columns), settings)
        elif not data:
            remedy = "Give --data, or --vectors with --query-vectors and --qrels."
            raise InputError("nothing to train on.", field="data", remedy=remedy)
        else:
            train = _text_training(data, parse_columns(columns), settings, offline=offline)
        run_and_write(train, output_dir, as_json=as_json, quiet=quiet)


def _text_training(
    data: str, columns: dict[str, str], settings: JasperConfig, *, offline: bool
) -> Callable[[], Jasper]:
    from jasper_rag.jasper import Jasper
    from jasper_rag.text.readers import read_retrieval_set

    retrieval_set = read_retrieval_set(data, columns=columns)
    return lambda: Jasper.fit(retrieval_set, config=settings, offline=offline)


def run_and_write(train: Callable[[], Jasper], output_dir: Path, *, as_json: bool, quiet: bool) -> Jasper:
    """Train, write the run directory, print the table and what to type next."""
    from jasper_rag.run_directory import write_fit, writing

    with writing(output_dir):
        jasper = train()
        record = jasper.record
        assert record is not None
        metrics = write_fit(jasper, record, output_dir)
    show_results(jasper, metrics, output_dir, as_json=as_json, quiet=quiet)
    return jasper


def show_results(jasper: Jasper, metrics: Mapping[str, Any], output_dir: Path, *, as_json: bool, quiet: bool) -> None:
    """Print what was decided, the comparison, the verdict, and what to type next."""
    from jasper_rag.run_directory import REPORT
    from jasper_rag.run_report import facts, next_commands

    assert jasper.record is not None
    for name, value in facts(jasper, jasper.record).items():
        console.say(f"  {name}: {value}", quiet=quiet)
    console.say(quiet=quiet)
    if as_json:
        console.put_json(metrics)
    else:
        console.put_comparison(metrics)
    console.say(f"\nreport: {output_dir / REPORT}", quiet=quiet)
    console.say("next:", quiet=quiet)
    for command in next_commands(output_dir, jasper.model.identity.name):
        console.say(f"  {command}", quiet=quiet)
