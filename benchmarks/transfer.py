"""A model asked about documents it was not trained on: is it harmless as shipped, and what does the guard cost at home?

    python benchmarks/transfer.py --data-root DATA --output transfer.json          # models of tldr and medquad
    python benchmarks/transfer.py --data-root DATA --train stdlib scifact --ask tldr stdlib scifact

DATA holds BEIR folders; `stdlib` is the running Python's own standard library and needs no file. A model trained on it
reads 128 tokens of a text, as in the demo; every set is embedded with the encoder of the model that is asked. Test
splits; p against the plain encoder. Embeddings are cached: a second run trains and measures only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.atomic_files import write_json
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.evaluation.verdict import SIGNIFICANT
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.records import RetrievalSet
from jasper_rag.text.splitting import ensure_splits

TRAIN = ("tldr", "medquad")
ASK = ("stdlib", "tldr", "medquad", "scifact", "squadshifts_wiki", "cranfield", "xquad_en")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every model, ask every set, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--train", nargs="+", default=list(TRAIN))
    parser.add_argument("--ask", nargs="+", default=list(ASK))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, help="YAML settings; the seed is overridden")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    sets = {name: _read(name, options.data_root, options.seed) for name in {*options.train, *options.ask}}
    results: dict[str, list[Row]] = {}
    for trained_on in options.train:
        overrides = {"seed": options.seed, "encoder.max_seq_length": MAX_SEQ_LENGTH if trained_on == "stdlib" else None}
        jasper = Jasper.fit(sets[trained_on], config=load_config(options.config, overrides))
        # The model's own set is always asked: what the guard costs there is half of the answer.
        results[trained_on] = [_asked(jasper, name, sets[name]) for name in dict.fromkeys([trained_on, *options.ask])]
        print(table(trained_on, results[trained_on]), flush=True)
        if options.output is not None:
            write_json(options.output, {name: {"rows": rows, **summary(rows)} for name, rows in results.items()})


def _read(name: str, data_root: Path, seed: int) -> RetrievalSet:
    return ensure_splits(read_python_source(), seed) if name == "stdlib" else read_retrieval_set(data_root / name)


def _asked(jasper: Jasper, name: str, retrieval_set: RetrievalSet) -> Row:
    metrics = jasper.evaluate(retrieval_set).to_metrics()
    print(f"{name}: {metrics['verdict']}", file=sys.stderr, flush=True)
    return row_of(name, metrics)


def row_of(name: str, metrics: Mapping[str, Any]) -> Row:
    """The figures of one set, from the content of `metrics.json`."""
    systems = metrics["systems"]
    keys = {"plain": "plain", "ungated": "jasper_ungated", "ships": "jasper", "fusion": "fusion", "hybrid": "hybrid"}
    return {
        "asked": name,
        "questions": metrics["questions"],
        "openness": metrics["corpus_openness"],
        **{column: systems[key]["ndcg@10"] for column, key in keys.items()},
        "p_ungated": systems["jasper_ungated"]["p_value"],
        "p_ships": systems["jasper"]["p_value"],
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What the guard keeps at home (the first row) and what is lost elsewhere (the others)."""
    own, *others = rows
    gain = own["ungated"] - own["plain"]
    losses = {key: [row["plain"] - row[key] for row in others] for key in ("ungated", "ships")}
    harmed = {
        key: [row["asked"] for row in others if row[key] < row["plain"] and row[f"p_{key}"] < SIGNIFICANT]
        for key in losses
    }
    return {
        "own_gain_kept": (own["ships"] - own["plain"]) / gain if gain > 0 else None,
        "mean_loss": {key: float(np.mean(values)) if values else 0.0 for key, values in losses.items()},
        "significantly_below": harmed,
    }


def table(trained_on: str, rows: Sequence[Row]) -> str:
    """Markdown: one line per set, then the summary."""
    lines = [
        f"\n### Trained on {trained_on}\n",
        "| asked | openness | plain | ungated | p | ships | p | plain + BM25 | ships + BM25 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row['asked']} (its own)" if row["asked"] == trained_on else row["asked"]
        figures = " | ".join(
            f"{row[key]:.4f}" for key in ("plain", "ungated", "p_ungated", "ships", "p_ships", "fusion", "hybrid")
        )
        lines.append(f"| {name} | {row['openness']:.2f} | {figures} |")
    found = summary(rows)
    kept = "no gain to keep" if found["own_gain_kept"] is None else f"{found['own_gain_kept']:.0%} of the gain kept"
    for key in ("ungated", "ships"):
        below = ", ".join(found["significantly_below"][key]) or "none"
        lines.append(
            f"\nElsewhere, {key}: mean loss {found['mean_loss'][key]:+.4f}, significantly below plain: {below}."
        )
    return "\n".join([*lines, f"\nAt home: {kept}."])


if __name__ == "__main__":
    main()
