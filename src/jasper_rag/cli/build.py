"""`jasper build`: from documents and questions to a steering dataset directory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from jasper_rag.cli import console, options
from jasper_rag.cli.columns import HOW, column_pairs, parse_columns
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jasper_rag.build.build_input import BuildInput
    from jasper_rag.build.dataset_builder import BuiltDataset
    from jasper_rag.dataset_layout import Split

FORMATS = ("safetensors", "pt", "hdf5")


Data = Annotated[str | None, typer.Option("--data", help="Documents and questions, as `jasper fit` reads them.")]
CsvPaths = Annotated[
    list[Path] | None,
    typer.Option("--csv", help="CSV of question-source pairs with scores and keywords. Repeatable."),
]
CsvSplits = Annotated[
    list[str] | None,
    typer.Option(
        "--csv-split",
        metavar="SPLIT=FILE",
        help="As --csv, for one split: train=a.csv, val=b.csv, test=c.csv. Repeatable.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="Columns by their names there: for --data as `jasper fit` takes them, for --csv the fields are question, "
        "source, keywords, relevance_score. Repeatable.",
    ),
]
ClusterFile = Annotated[Path | None, typer.Option("--clusters", help="JSON file of keyword clusters.")]
StorageFormat = Annotated[
    str, typer.Option("--storage-format", help="safetensors; or pt, hdf5: what the original project reads.")
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML of build settings; flags override it.")]


def build(
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Dataset directory to write.")],
    data: Data = None,
    csv_paths: CsvPaths = None,
    csv_splits: CsvSplits = None,
    columns: Columns = None,
    clustering: Annotated[
        str | None, typer.Option("--clustering", help="kmeans, topic, title or file. [default: kmeans]")
    ] = None,
    clusters: ClusterFile = None,
    n_clusters: Annotated[
        int | None, typer.Option("--n-clusters", min=2, help="Of k-means. [default: by size]")
    ] = None,
    n_neg: Annotated[int | None, typer.Option("--n-neg", min=1, help="Negatives per pair. [default: 12]")] = None,
    split: Annotated[str | None, typer.Option("--split", help="given, source or question. [default: given]")] = None,
    storage_format: StorageFormat = "safetensors",
    config: Config = None,
    encoder: options.EncoderName = None,
    max_seq_length: options.MaxLength = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same dataset. [default: 42]")] = None,
    quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Build a steering dataset: embeddings, clusters with names, keywords, hard negatives, splits.

    Example:  jasper build --data data/tldr --output-dir datasets/tldr
    """
    from jasper_rag.build.build_config import BuildConfig
    from jasper_rag.build.build_plan import plan_build
    from jasper_rag.build.dataset_builder import build_dataset
    from jasper_rag.build.dataset_files import require_replaceable
    from jasper_rag.embedding.embedding_store import EmbeddingStore
    from jasper_rag.encoder_choice import usable_encoder
    from jasper_rag.file_locks import exclusive
    from jasper_rag.jasper_config import load_config, load_settings

    overrides = {
        "clustering": clustering or ("file" if clusters is not None else None),
        "n_clusters": n_clusters,
        "negatives.n_neg": n_neg,
        "split": split,
        "csv_splits": _files_by_split(csv_splits),
        "random_seed": seed,
    }
    settings = load_settings(BuildConfig, config, overrides)
    encoding = load_config(None, {"encoder.name": encoder, "encoder.max_seq_length": max_seq_length})
    require_replaceable(output_dir)
    _require_format(storage_format)
    place = output_dir.absolute()
    with console.talking(quiet), exclusive(place.parent / f".{place.name}.building", "building here"):
        plan = plan_build(_given(data, csv_paths or [], settings.csv_splits, columns), settings, clusters)
        built = build_dataset(plan, usable_encoder(None, encoding, offline=offline), EmbeddingStore())
        _write(built, place, storage_format)
        _say_result(built, output_dir, quiet=quiet)


def _require_format(storage_format: str) -> None:
    from jasper_rag.data.storage.hdf5_file import require_h5py

    if storage_format not in FORMATS:
        remedy = f"Choose one of {', '.join(FORMATS)}."
        raise InputError(f"there is no storage format {storage_format!r}.", field="storage-format", remedy=remedy)
    if storage_format == "hdf5":
        require_h5py()  # before the work that would be in vain without it


def _write(built: BuiltDataset, output_dir: Path, storage_format: str) -> None:
    from jasper_rag.atomic_files import replacing_directory
    from jasper_rag.build.dataset_files import write_dataset
    from jasper_rag.data.conversion import convert_dataset

    if storage_format == "safetensors":
        write_dataset(built, output_dir)
        return
    with TemporaryDirectory(prefix=f".{output_dir.name}.", dir=output_dir.parent) as private:
        ours = write_dataset(built, Path(private) / "ours")
        converted = convert_dataset(ours, Path(private) / "converted", "pt" if storage_format == "pt" else "hdf5")
        with replacing_directory(output_dir) as folder:
            for path in converted.iterdir():
                path.rename(folder / path.name)


def _files_by_split(values: list[str] | None) -> dict[str, list[str]] | None:
    """Split -> files, of `SPLIT=FILE`."""
    from jasper_rag.dataset_layout import SPLITS

    named: dict[str, list[str]] = {}
    for value in values or ():
        split, _, path = value.partition("=")
        if split not in SPLITS or not path:
            remedy = f"Write SPLIT=FILE with one of {', '.join(SPLITS)}, for example --csv-split train=pairs.csv."
            raise InputError(f"{value!r} names no file of a split.", field="csv-split", remedy=remedy)
        named.setdefault(split, []).append(path)
    return named or None


def _given(
    data: str | None,
    csv_paths: list[Path],
    csv_splits: Mapping[Split, list[str]] | None,
    columns: list[str] | None,
) -> BuildInput:
    from jasper_rag.build.build_input import BuildInput
    from jasper_rag.text.original_csv import read_scored_pairs
    from jasper_rag.text.readers import read_retrieval_set

    if [data is not None, bool(csv_paths), csv_splits is not None].count(True) != 1:
        remedy = "Give --data, or --csv with a file of question-source pairs, or --csv-split with one for each split."
        raise InputError("one kind of input is expected.", field="data", remedy=remedy)
    if data is not None:
        return BuildInput(read_retrieval_set(data, columns=parse_columns(columns)))
    if csv_splits is not None:
        by_split = {str(split): files for split, files in csv_splits.items()}
        pairs, name = read_scored_pairs(by_split, _csv_columns(columns)), Path(csv_splits["train"][0]).stem
    else:
        pairs, name = read_scored_pairs(csv_paths, _csv_columns(columns)), csv_paths[0].stem
    return BuildInput.of_pairs(pairs, name)


def _csv_columns(columns: list[str] | None) -> dict[str, str]:
    """Field of a scored pair -> column."""
    named: dict[str, str] = {}
    for field, column in column_pairs(columns):
        if field in named:
            raise InputError(f"{field!r} is given twice.", field="columns", remedy=HOW)
        named[field] = column
    return named


def _say_result(built: BuiltDataset, output_dir: Path, *, quiet: bool) -> None:
    import numpy as np

    table, sizes = built.table, built.clusters.clusters.sizes
    tiers = np.bincount(built.negatives.tiers.ravel(), minlength=5)[1:5] / built.negatives.tiers.size
    names = "; ".join(built.clusters.names[:3])
    lines = [
        f"{len(table.pairs):,} pairs of {len(table.questions):,} questions and {len(table.documents):,} sources: "
        + ", ".join(f"{len(rows):,} {split}" for split, rows in table.splits.items()),
        f"{len(sizes)} clusters of {sizes.min():,} to {sizes.max():,} sources: {names}; ...",
        f"{len(built.keywords.vocabulary):,} keywords",
        f"{built.negatives.rows.shape[1]} negatives per pair: {tiers[0]:.0%} in-cluster, {tiers[1]:.0%} adjacent, "
        f"{tiers[2]:.0%} similar, {tiers[3]:.0%} random",
    ]
    lines += [
        f"{split}: {leak['shared_sources']:,} of {leak['sources']:,} sources and "
        f"{leak['near_duplicate_questions']:,} of {leak['questions']:,} questions stand in train too"
        for split, leak in built.leaks.items()
    ]
    for line in lines:
        console.say(f"  {line}", quiet=quiet)
    console.say(f"\ndataset: {output_dir}\nnext:\n  jasper inspect {output_dir}", quiet=quiet)
