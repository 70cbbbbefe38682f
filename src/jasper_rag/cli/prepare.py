"""`jasper prepare`: pairs of documents, or of pairs, in the files that training an encoder reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jasper_rag.cli import console, options
from jasper_rag.errors import InputError

if TYPE_CHECKING:
    from jasper_rag.embedding.encoder import Encoder
    from jasper_rag.pair_preparation import PreparationConfig, PreparedPairs


_Documents = Annotated[Path | None, typer.Option("--documents", help="Text file, one document per line.")]
_InputDir = Annotated[Path | None, typer.Option("--input-dir", help="Folder of .txt files, a document each.")]
_CsvFile = Annotated[Path | None, typer.Option("--csv-file", help="CSV: query,positive,negative.")]
_Input = Annotated[Path | None, typer.Option("--input", help="JSON list of pairs, to be split.")]
_GeneratePairs = Annotated[bool, typer.Option("--generate-pairs", help="Make queries for documents (they need it).")]
_NumPairs = Annotated[
    int | None, typer.Option("--num-pairs", min=1, help="Pairs in all. [default: one per document; all given ones]")
]
_AddNegatives = Annotated[
    bool, typer.Option("--add-negatives/--no-add-negatives", help="Give every pair a hard negative.")
]
_Split = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--split", metavar="TRAIN VAL TEST", help="Shares, e.g. 0.8 0.1 0.1. [default: all for train]"),
]
_NoShuffle = Annotated[
    bool, typer.Option("--no-shuffle", help="Split in the order given: the first for train, the last for test.")
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        parser=options.named_path,
        metavar="<path>",
        help="File of the training pairs. [default: train.json in the folder]",
    ),
]
_OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", parser=options.named_path, metavar="<path>", help="Folder. [default: that of --output]"
    ),
]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same files.")]
_Styles = Annotated[
    list[str] | None,
    typer.Option("--styles", help="cloze, keyword, title, question, or mixed; several by commas. [default: mixed]"),
]
_Negatives = Annotated[str, typer.Option("--negatives", help="Mined by bm25, encoder, or random.")]
_BaseModel = Annotated[
    str | None, typer.Option("--base-model", help="Of --negatives encoder. [default: all-MiniLM-L6-v2]")
]
_Distractors = Annotated[
    Path | None, typer.Option("--distractors", help="More documents for the test's corpus, one per line.")
]
_Generator = Annotated[
    str | None,
    typer.Option(
        "--generator",
        help="Address of an OpenAI-compatible server that writes the queries; its key is in JASPER_GENERATOR_KEY.",
    ),
]
_GeneratorModel = Annotated[str, typer.Option("--generator-model", help="Name the server knows.")]
_Language = Annotated[str, typer.Option("--language", help="Of the documents; `none` for none.")]


def prepare(
    documents: _Documents = None,
    input_dir: _InputDir = None,
    csv_file: _CsvFile = None,
    input_: _Input = None,
    generate_pairs: _GeneratePairs = False,
    num_pairs: _NumPairs = None,
    add_negatives: _AddNegatives = True,
    split: _Split = None,
    no_shuffle: _NoShuffle = False,
    output: _Output = None,
    output_dir: _OutputDir = None,
    seed: _Seed = 42,
    styles: _Styles = None,
    negatives: _Negatives = "bm25",
    base_model: _BaseModel = None,
    distractors: _Distractors = None,
    generator: _Generator = None,
    generator_model: _GeneratorModel = "default",
    language: _Language = "english",
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make train.json, val.json and test_eval.json, for scripts/train.py and scripts/evaluate.py.

    Near-duplicate documents are dropped, queries are no pieces of their documents, splits share no document, negatives
    come from training documents only, and the test asks the whole corpus. preparation_report.json says what was made
    and dropped. Give one input: --documents, --input-dir, --csv-file or --input.

    Example:  jasper prepare --documents docs.txt --generate-pairs --split 0.8 0.1 0.1 --output-dir data/processed
    """
    from jasper_rag.pair_preparation import PreparationConfig, write_prepared

    given = {"--documents": documents, "--input-dir": input_dir, "--csv-file": csv_file, "--input": input_}
    flag, source = _only_one(given)
    if output is None and output_dir is None:
        raise InputError("no place to write to.", remedy="Give --output-dir FOLDER, or --output FILE.")
    if flag in ("--documents", "--input-dir") and not (generate_pairs or generator):
        raise InputError("documents have no queries.", field=flag[2:], remedy="Add --generate-pairs to make some.")
    if generator and flag in ("--csv-file", "--input"):
        raise InputError("pairs have their queries.", field="generator", remedy="Leave --generator out.")
    config = PreparationConfig(
        num_pairs=num_pairs,
        styles=tuple(styles or ("mixed",)),
        add_negatives=add_negatives,
        negatives=negatives,
        split=split or (1.0, 0.0, 0.0),
        shuffle=not no_shuffle,
        seed=seed,
        language=language,
    )
    folder = output_dir or (output.parent if output is not None else Path())
    _require_place(folder, output)
    # Documents without a query are counted in the report; the parts they are asked for in say nothing to a reader.
    details = console.hushed("jasper_rag.text.query_synthesis", logging.WARNING)
    with console.talking(quiet), details:
        encoder = _encoder(base_model, offline=offline) if negatives == "encoder" and add_negatives else None
        writer = None if generator is None else (generator, generator_model)
        prepared = _prepared(flag, source, config, distractors, encoder, writer)
        files = write_prepared(prepared, folder, output)
    _show(prepared, files, folder, as_json=as_json, quiet=quiet)


def _only_one(given: Mapping[str, Path | None]) -> tuple[str, Path]:
    found = [(flag, path) for flag, path in given.items() if path is not None]
    if len(found) != 1:
        named = " and ".join(flag for flag, _ in found)
        problem = f"{named} were given." if found else "no input was given."
        raise InputError(problem, remedy=f"Give one of {', '.join(given)}.")
    return found[0]


def _require_place(folder: Path, output: Path | None) -> None:
    from jasper_rag.atomic_files import require_writable

    for place in {folder, folder if output is None else output.parent}:
        require_writable(place)
    if output is not None and output.is_dir():
        raise InputError("--output is a folder.", path=output, remedy="Name a file, or use --output-dir.")


def _prepared(
    flag: str,
    source: Path,
    config: PreparationConfig,
    distractors: Path | None,
    encoder: Encoder | None,
    writer: tuple[str, str] | None,
) -> PreparedPairs:
    from jasper_rag import pair_preparation
    from jasper_rag.text import pair_files
    from jasper_rag.text.query_generator import ChatGenerator

    more = [] if distractors is None else pair_files.read_lines(distractors)
    if flag in ("--documents", "--input-dir"):
        read = pair_files.read_lines if flag == "--documents" else pair_files.read_text_folder
        generate = None if writer is None else ChatGenerator(*writer)
        return pair_preparation.prepare_documents(
            read(source), config, distractors=more, generate=generate, encoder=encoder
        )
    pairs = pair_files.read_examples_csv(source) if flag == "--csv-file" else pair_files.read_examples(source)
    return pair_preparation.prepare_pairs(pairs, config, distractors=more, encoder=encoder)


def _encoder(base_model: str | None, *, offline: bool) -> Encoder:
    import os

    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    name = base_model or os.environ.get("JASPER_BASE_MODEL") or "sentence-transformers/all-MiniLM-L6-v2"
    return SentenceEncoder(name, offline=offline)


def _show(prepared: PreparedPairs, files: Sequence[Path], folder: Path, *, as_json: bool, quiet: bool) -> None:
    report = dict(prepared.report)
    if as_json:
        console.put_json({**report, "files": [str(path) for path in files]})
    else:
        print("\n".join(_lines(report)))
    for path in files:
        console.say(f"wrote {path}", quiet=quiet)
    stale = [folder / name for name in ("val.json", "test_eval.json")]
    for path in stale:
        if path.exists() and path not in files:
            console.say(f"{path} is of an earlier run and stays as it is", quiet=quiet)
    console.say_how_to_train(files[0], next((path for path in files if path.name == "val.json"), None), quiet=quiet)


def _lines(report: Mapping[str, Any]) -> list[str]:
    read = next(f"{report[key]:,} {key.replace('_', ' ')}" for key in ("documents_read", "pairs_read") if key in report)
    pairs, used = report["pairs"], report["documents_with_queries"]
    lines = [f"{read}, {report['documents_kept']:,} different documents kept"]
    lines += [f"  dropped: {count:,} {reason}" for reason, count in report["dropped"].items()]
    made, asked = sum(pairs.values()), report.get("pairs_asked_for", 0)
    if made + report["dropped"].get("pairs that no style could make", 0) < asked:
        lines.append(f"  {made:,} of the {asked:,} pairs asked for: these documents give no more, more documents do")
    for name in ("train", "val", "test"):
        if pairs[name]:
            lines.append(f"{name}: {pairs[name]:,} queries on {used[name]:,} documents")
    if report["test_corpus"]:
        lines.append(f"test corpus: {report['test_corpus']:,} documents")
    lines.append(f"queries: {_listed(report['styles'])}")
    if report["negatives"]:
        lines.append(f"negatives: {_listed(report['negatives'])}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
