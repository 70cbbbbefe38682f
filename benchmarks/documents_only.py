"""How many labels it takes: nDCG@10 on real test questions by the number of labelled pairs, from none to all.

    python benchmarks/documents_only.py --data-root DATA --output curve.json
    python benchmarks/documents_only.py --data-root DATA --sets scifact --labels 0 50 all --seeds 0 1

DATA holds BEIR folders (tldr, medquad, scifact, squadshifts_wiki); `stdlib` is the running Python's own standard
library and needs no file. Labels are drawn by seed from train and dev in proportion; the test split stays whole, and
no label but the drawn ones takes part. Each number of labels is fitted twice: on these labels alone, and with the
default settings, which put pseudo-questions beside few labels. Texts are embedded once, and cached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.atomic_files import write_json
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet, embed_set
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import identity_of
from jasper_rag.encoder_choice import usable_encoder
from jasper_rag.fitting.model_fitting import fit_model
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.training_questions import PSEUDO, PSEUDO_DEV, Kind, TrainingQuestions, training_questions

SETS = ("stdlib", "tldr", "medquad", "scifact", "squadshifts_wiki")
LABELS = ("0", "50", "200", "1000", "all")
SYSTEMS = ("jasper_ungated", "jasper", "hybrid")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit every set with every number of labels and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--labels", nargs="+", default=list(LABELS), help="numbers of labelled pairs, or 'all'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--config", type=Path, help="YAML settings; the seed is overridden")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    results: dict[str, list[dict[str, Any]]] = {}
    print(_header(), flush=True)
    for name in options.sets:
        for seed in options.seeds:
            settings = _settings(name, seed, options.config)
            for run in _curve(name, options.data_root, options.labels, settings):
                results.setdefault(name, []).append(run)
                print(_row(name, run), flush=True)
                if options.output is not None:
                    write_json(options.output, results)


def _settings(name: str, seed: int, config: Path | None) -> JasperConfig:
    return load_config(config, {"seed": seed, "encoder.max_seq_length": MAX_SEQ_LENGTH if name == "stdlib" else None})


def _curve(name: str, data_root: Path, labels: Sequence[str], settings: JasperConfig) -> Iterator[dict[str, Any]]:
    retrieval_set = read_python_source() if name == "stdlib" else read_retrieval_set(data_root / name)
    beside = settings.pseudo_questions.model_copy(update={"use": "always"})
    asked = training_questions(retrieval_set, beside, settings.seed, language=settings.language)
    encoder = usable_encoder(None, settings, offline=False)
    embedded = embed_set(asked.retrieval_set, encoder, EmbeddingStore(), settings.chunking)
    there_are = asked.labelled_pairs + _pairs(embedded.splits["dev"])
    counts = [there_are if wanted == "all" else int(wanted) for wanted in labels]
    for count in (count for count in counts if count <= there_are):
        for how in ("labels alone", "default"):
            drawn = _drawn(embedded, count, settings.seed, beside=_is_beside(settings, embedded, count, how))
            if how == "default" and count and PSEUDO not in drawn.splits:
                continue  # the same fit once more
            if how == "labels alone" and not count:
                continue
            record, _ = fit_model(_described(asked, drawn, count), drawn, identity_of(encoder), settings)
            run = record.to_metrics()
            print(f"{name}, {count:,} labels, {how}: {run['verdict']}", file=sys.stderr, flush=True)
            yield {"labels": count, "how": how, **run}


def _is_beside(settings: JasperConfig, embedded: EmbeddedSet, count: int, how: str) -> bool:
    """Whether the default settings put pseudo-questions beside so many labels."""
    train, dev = (_pairs(embedded.splits[split]) for split in ("train", "dev"))
    return how == "default" and count * train / (train + dev) < settings.pseudo_questions.below


def _drawn(embedded: EmbeddedSet, count: int, seed: int, *, beside: bool) -> EmbeddedSet:
    """The set with `count` labelled pairs in train and dev, or none and pseudo-questions in their place."""
    splits = dict(embedded.splits)
    if not count:
        return replace(embedded, splits={"train": splits[PSEUDO], "dev": splits[PSEUDO_DEV], "test": splits["test"]})
    whole = {split: _pairs(splits[split]) for split in ("train", "dev")}
    dev = max(1, round(count * whole["dev"] / sum(whole.values())))
    kept = {"train": _sample(splits["train"], count - dev, seed), "dev": _sample(splits["dev"], dev, seed)}
    pseudo = {split: splits[split] for split in (PSEUDO, PSEUDO_DEV) if beside}
    return replace(embedded, splits={**kept, "test": splits["test"], **pseudo})


def _sample(queries: EmbeddedQueries, pairs: int, seed: int) -> EmbeddedQueries:
    """Queries drawn at random until they hold so many pairs, in their own order."""
    drawn = np.random.default_rng(seed).permutation(len(queries))
    per_query = np.diff(queries.judgements.indptr)[drawn]
    rows = np.sort(drawn[: int(np.searchsorted(per_query.cumsum(), pairs)) + 1])
    ids, texts = (tuple(named[row] for row in rows) for named in (queries.ids, queries.texts))
    return EmbeddedQueries(ids, texts, queries.vectors[rows], queries.judgements.select(rows))


def _pairs(queries: EmbeddedQueries) -> int:
    return int((queries.judgements.grades > 0).sum())


def _described(asked: TrainingQuestions, drawn: EmbeddedSet, count: int) -> TrainingQuestions:
    """What `training_questions` would say of the drawn set."""
    test = {"test": asked.retrieval_set.qrels["test"]}
    only_test = replace(asked.retrieval_set, qrels=test)
    if not count:
        notes = ("No label trained or decided anything.",)
        return TrainingQuestions(only_test, "pseudo", 0, len(drawn.splits["test"]), notes)
    dev = len(drawn.splits["dev"])
    kind: Kind = "labelled and pseudo" if PSEUDO in drawn.splits else "labelled"
    return TrainingQuestions(only_test, kind, _pairs(drawn.splits["train"]), len(drawn.splits["test"]), real_dev=dev)


def _header() -> str:
    columns = (
        "set",
        "labelled pairs",
        "trained on",
        "plain",
        "ungated",
        "ships",
        "p",
        "plain + BM25",
        "hybrid",
        "CPU-s",
    )
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def _row(name: str, run: dict[str, Any]) -> str:
    systems = run["systems"]
    plain, fusion = systems["plain"]["ndcg@10"], systems["fusion"]["ndcg@10"]
    ungated, ships, hybrid = (systems[key]["ndcg@10"] for key in SYSTEMS)
    return (
        f"| {name} | {run['labels']:,} | {run['trained_on']['chosen']} | {plain:.3f} | {ungated:.3f} | {ships:.3f} | "
        f"{run['p_value']:.2g} | {fusion:.3f} | {hybrid:.3f} | {systems['jasper']['train_seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
