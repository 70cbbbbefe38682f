"""Ranking quality over data sets and seeds: every system of the comparison, mean and spread, as Markdown and JSON.

    python benchmarks/quality.py --data-root DATA --output results.json            # all five sets, seeds 0 1 2
    python benchmarks/quality.py --data-root DATA --sets scifact --seeds 0

DATA holds BEIR folders (tldr, medquad, scifact, squadshifts_wiki); `stdlib` is the running Python's own standard
library and needs no file. Embeddings are cached: a second run trains and measures only. The seed decides training,
resampling, and, for `stdlib`, the split.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jasper_rag.atomic_files import write_json
from jasper_rag.cli.demo import MAX_SEQ_LENGTH
from jasper_rag.evaluation.systems import SYSTEM_NAMES
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.text.python_source import read_python_source
from jasper_rag.text.readers import read_retrieval_set

SETS = ("stdlib", "tldr", "medquad", "scifact", "squadshifts_wiki")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every set with every seed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--config", type=Path, help="YAML settings; the seed is overridden")
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        results[name] = [_fit(name, options.data_root, seed, options.config) for seed in options.seeds]
        print(_table(name, results[name]), flush=True)
        if options.output is not None:
            write_json(options.output, results)


def _fit(name: str, data_root: Path, seed: int, config: Path | None) -> dict[str, Any]:
    overrides = {"seed": seed, "encoder.max_seq_length": MAX_SEQ_LENGTH if name == "stdlib" else None}
    settings = load_config(config, overrides)
    retrieval_set = read_python_source() if name == "stdlib" else read_retrieval_set(data_root / name)
    jasper = Jasper.fit(retrieval_set, config=settings)
    record = jasper.record
    assert record is not None
    metrics = record.to_metrics()
    metrics["dev_ndcg@10"] = record.candidates.trained.best_ndcg
    metrics["topics"] = record.topics.summary()
    metrics["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} seed {seed}: {metrics['verdict']}", file=sys.stderr, flush=True)
    return metrics


def _table(name: str, runs: Sequence[dict[str, Any]]) -> str:
    questions, documents = runs[0]["questions"], runs[0]["documents"]
    lines = [
        f"\n### {name}: {questions:,} test questions, {documents:,} documents, {len(runs)} seeds\n",
        "| system | nDCG@10 | spread | R@10 | MRR@10 | unseen sources | train CPU-s |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, title in SYSTEM_NAMES.items():
        figures = [run["systems"][key] for run in runs]
        ndcg, recall, mrr, seconds = (
            np.array([f[metric] for f in figures]) for metric in ("ndcg@10", "recall@10", "mrr@10", "train_seconds")
        )
        unseen = np.mean([run["unseen_sources"]["ndcg@10"].get(key, np.nan) for run in runs])
        lines.append(
            f"| {title} | {ndcg.mean():.3f} | {ndcg.min():.3f}-{ndcg.max():.3f} | {recall.mean():.3f} | "
            f"{mrr.mean():.3f} | {unseen:.3f} | {f'{seconds.mean():.1f}' if seconds.any() else ''} |"
        )
    alphas = ", ".join(f"{run['alpha']:g}" for run in runs)
    p_values = ", ".join(f"{run['p_value']:.2g}" for run in runs)
    share = runs[0]["unseen_sources"]["questions"] / questions
    lines.append(
        f"\nBlend a = {alphas}; p of JASPER (ships) against the plain encoder {p_values}; {share:.0%} of the test "
        f"questions ask for a source that no train question asks for; peak memory {runs[-1]['peak_rss_mb']:,.0f} MB."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
