"""`jasper inspect`: what a dataset directory holds, in the terminal, as JSON or as a page."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.cli.tables import plain, put_table

if TYPE_CHECKING:
    from jasper_rag.explain.dataset_page_data import DatasetSummary, Sample

SHOWN_CLUSTERS = 12
_WIDTH = 110
_EXCERPT, _NEGATIVE = 200, 80


def inspect(
    dataset: Annotated[Path, typer.Argument(help="Dataset directory: ours, or one of the original project.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="HTML page to write: a map of the topics, and all below.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a dataset holds: counts, topics, negatives, steering, leaks, samples.

    Everything in it is checked on the way, so this also says whether a directory is sound.

    Example:  jasper inspect datasets/tldr --output tldr.html
    """
    from jasper_rag.explain.dataset_page import write_dataset_page
    from jasper_rag.explain.dataset_page_data import open_for_inspection
    from jasper_rag.explain.dataset_page_summary import summarise

    with console.talking(quiet):
        opened = open_for_inspection(dataset)
        summary = summarise(opened)
        if output is not None:
            write_dataset_page(opened, summary, output)
    if as_json:
        console.put_json(asdict(summary))
    else:
        _put_summary(summary)
    if output is not None:
        console.say(f"\npage: {output}", quiet=quiet)


def _put_summary(summary: DatasetSummary) -> None:
    counts = summary.counts
    kind = " of the original project" if summary.format_version is None else ""
    encoder = plain(summary.encoder) or "not kept"
    print(f"{plain(summary.name)}: {counts['pairs']:,} pairs, {counts['questions']:,} questions, ", end="")
    print(f"{counts['sources']:,} sources, {counts['clusters']:,} topics, {counts['keywords']:,} keywords")
    print(f"{summary.storage_format}{kind}, {summary.megabytes:,.1f} MB; {counts['dimension']} dimensions, ", end="")
    print(f"encoder {encoder}")
    if not summary.has_texts:
        print("no texts are kept here: rows stand for questions and sources, numbers for keywords and topics")
    _put_splits(summary)
    _put_clusters(summary)
    _put_negatives(summary)
    _put_steering(summary)
    for sample in summary.samples:
        _put_sample(sample)


def _put_splits(summary: DatasetSummary) -> None:
    print()
    heads = ("split", "pairs", "questions", "sources", "sources in train", "questions nearly in train")
    rows = [
        (
            split.name,
            *map(_number, (split.pairs, split.questions, split.sources, split.shared_sources, split.near_duplicates)),
        )
        for split in summary.splits
    ]
    put_table(heads, rows)
    for fault in summary.faults:
        print(f"warning: {plain(fault)}")


def _put_clusters(summary: DatasetSummary) -> None:
    clusters = sorted(summary.clusters, key=lambda cluster: -cluster.sources)
    source = f" ({plain(summary.clustering)})" if summary.clustering else ""
    print()
    rows = [(cluster.name, _number(cluster.sources), _number(cluster.pairs)) for cluster in clusters[:SHOWN_CLUSTERS]]
    put_table((f"topic{source}", "sources", "pairs"), rows)
    if len(clusters) > SHOWN_CLUSTERS:
        print(f"and {len(clusters) - SHOWN_CLUSTERS:,} smaller ones")


def _put_negatives(summary: DatasetSummary) -> None:
    print(f"\n{summary.counts['n_neg']} negatives per pair; ", end="")
    print(f"mean cosine of a question with its own source: {summary.positive_cosine:.3f}")
    rows = [
        (tier.name, f"{tier.share:.1%}", "" if tier.cosine is None else f"{tier.cosine:.3f}") for tier in summary.tiers
    ]
    put_table(("tier", "share", "mean cosine"), rows)


def _put_steering(summary: DatasetSummary) -> None:
    print()
    rows = [(variant.name, f"{variant.first:.1%}", f"{variant.last:.1%}") for variant in summary.variants]
    put_table(("steering", "epoch 0", f"epoch {summary.last_epoch}"), rows)
    if summary.pairs_without_keywords:
        print(f"{summary.pairs_without_keywords:,} pairs have no keyword")


def _put_sample(sample: Sample) -> None:
    from jasper_rag.explain.dataset_page_data import TIER_NAMES

    print(f"\n{plain(sample.question, _EXCERPT)}")
    text = f"{sample.source_title}: {sample.source_text}" if sample.source_text else sample.source_title
    words = f"; keywords: {', '.join(sample.keywords)}" if sample.keywords else ""
    for line in (f"{sample.cosine:.3f}  {plain(text, _EXCERPT)}", plain(f"topic: {sample.cluster}{words}")):
        print(textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent=" " * 9))
    for negative in sample.negatives:
        shown = f"{negative.title}: {negative.text}" if negative.text else negative.title
        print(f"  {negative.cosine:6.3f}  {TIER_NAMES[negative.tier]:<10}  {plain(shown, _NEGATIVE)}")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
