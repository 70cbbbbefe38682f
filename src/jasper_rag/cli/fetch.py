"""`jasper fetch`: a published set by name, ready for `jasper fit`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError


class Published(NamedTuple):
    """One line of `--list`."""

    documents: str
    questions: str
    splits: str
    content: str


SETS: Mapping[str, Published] = {
    "msmarco": Published("8.84M", "6,980", "train dev test", "questions to a search engine, web passages"),
    "trec-covid": Published("171K", "50", "test", "questions on COVID-19, papers"),
    "nfcorpus": Published("3.6K", "323", "train dev test", "questions on nutrition and health, medical papers"),
    "nq": Published("2.68M", "3,452", "test", "questions to a search engine, Wikipedia passages"),
    "hotpotqa": Published("5.23M", "7,405", "train dev test", "questions that need two Wikipedia articles"),
    "fiqa": Published("57K", "648", "train dev test", "questions on finance, forum posts"),
    "arguana": Published("8.67K", "1,406", "test", "arguments, their counter-arguments"),
    "webis-touche2020": Published("382K", "49", "test", "disputed questions, arguments"),
    "cqadupstack": Published("457K", "13,145", "test", "duplicate questions of twelve forums, one folder each"),
    "quora": Published("523K", "10,000", "dev test", "duplicate questions"),
    "dbpedia-entity": Published("4.63M", "400", "dev test", "keywords, DBpedia entities"),
    "scidocs": Published("25K", "1,000", "test", "titles of papers, papers they cite"),
    "fever": Published("5.42M", "6,666", "train dev test", "claims, Wikipedia articles"),
    "climate-fever": Published("5.42M", "1,535", "test", "claims on the climate, Wikipedia articles"),
    "scifact": Published("5K", "300", "train test", "scientific claims, abstracts of papers"),
}
"""The sets with the figures of the table "Datasets available" in BEIR's wiki; questions are those evaluated on."""


def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A set of the BEIR benchmark.", show_default=False)
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Folder of the set. [default: data/NAME]", show_default=False)
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Another place with NAME.zip; any name is taken there.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the names and what they stand for.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Download documents with known questions: any set of the BEIR benchmark.

    Checks the archive, unpacks it, reads it once, and says what is in it and what to type next. An interrupted
    download goes on where it stopped; a set that is there is not downloaded again.

    Example:  jasper fetch scifact
    """
    from jasper_rag.text.fetch import fetch_beir, sets_in

    if list_:
        _print_names()
        return
    if name is None:
        raise InputError("no set is named.", remedy="jasper fetch --list  prints the names.")
    target = output_dir or Path("data") / name
    if target.name in ("", ".."):
        target = target.resolve()
    with console.talking(quiet):
        found = sets_in(fetch_beir(name, target.parent, base_url, folder=target.name))
    for folder in found:
        print(f"{folder}: {_counts(folder)}")
    console.say("\nnext:" if len(found) == 1 else "\nnext, for one of them:", quiet=quiet)
    console.say(f"  {_next_command(target, found)}", quiet=quiet)


def _print_names() -> None:
    print(f"{'set':<17} documents  questions  {'splits':<15} what it is")
    for name, about in SETS.items():
        print(f"{name:<17} {about.documents:>9}  {about.questions:>9}  {about.splits:<15} {about.content}")


def _counts(folder: Path) -> str:
    """Documents, and questions per split, without reading a large set into memory."""
    with (folder / "corpus.jsonl").open("rb") as lines:
        documents = sum(1 for line in lines if line.strip())
    return ", ".join(
        [f"{documents:,} documents", *(f"{count:,} {split} questions" for split, count in _splits(folder))]
    )


def _splits(folder: Path) -> Iterator[tuple[str, int]]:
    from jasper_rag.text.readers.rows import split_name

    paths = {split_name(path.stem): path for path in sorted((folder / "qrels").glob("[!.]*.tsv"))}
    known = [split for split in ("train", "dev", "test") if split in paths]
    for split in dict.fromkeys([*known, *paths]):
        with paths[split].open("rb") as lines:
            next(lines, None)  # the header
            yield split, len({line.partition(b"\t")[0] for line in lines if line.strip()})


def _next_command(target: Path, found: Sequence[Path]) -> str:
    data = found[0]
    run = Path("runs") / (target.name if data == target else f"{target.name}-{data.name}")
    return f"jasper fit --data {shlex.quote(str(data))} --output-dir {shlex.quote(str(run))}"
