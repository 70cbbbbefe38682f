"""How many predictions are explained per second: with and without known pairs, with and without vectors.

    OMP_NUM_THREADS=2 python benchmarks/explanations.py --threads 2
    python benchmarks/explanations.py --questions 4000 --pairs 100000 --output explanations.json

Random unit vectors stand for questions, centroids and known pairs; the time depends on their numbers alone. Each figure
is the best of several rounds, all questions in one call; `one at a time` calls once per question. On a busy machine the
wall clock shows the others: CPU seconds, of all threads together, do not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jasper_rag.atomic_files import write_json
from jasper_rag.explain.known_pairs import KnownPairs
from jasper_rag.explain.xai_interface import XAIInterface
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.models.subspace_predictor import SubspacePredictor

ONE_AT_A_TIME = 200
"""Questions of the row that asks one at a time."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=20_000, help="known pairs")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--subspaces", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    figures = measured(options)
    print(table(figures))
    if options.output is not None:
        write_json(options.output, figures)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Explanations per second, and bytes of JSON of one, for every way to ask."""
    generator = np.random.default_rng(0)
    questions = _unit_rows(generator, options.questions, options.dimension)
    steering = _unit_rows(generator, options.questions, options.dimension)
    pairs = _bank(generator, options.pairs, options.dimension)
    with_pairs, without = _interface(options, pairs), _interface(options, None)
    ways: list[tuple[str, XAIInterface, Vectors | None, bool]] = [
        ("no known pairs, compact", without, None, False),
        ("no known pairs, with vectors", without, None, True),
        ("known pairs, compact", with_pairs, None, False),
        ("known pairs, with vectors", with_pairs, None, True),
        ("known pairs, steered, with vectors", with_pairs, steering, True),
    ]
    figures: dict[str, Any] = {key: value for key, value in vars(options).items() if key != "output"}
    figures["ways"] = [
        _timed(name, options, partial(ask.explain_batch, questions, given, vectors=full))
        for name, ask, given, full in ways
    ]
    few = questions[:ONE_AT_A_TIME]
    single = _timed(
        "known pairs, one at a time", options, lambda: [with_pairs.explain_prediction(each) for each in few]
    )
    figures["ways"].append(single)
    return figures


def _timed(name: str, options: argparse.Namespace, work: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    wall, cpu, outputs = float("inf"), float("inf"), work()
    for _ in range(options.rounds):
        started, used = time.perf_counter(), time.process_time()
        outputs = work()
        wall, cpu = min(wall, time.perf_counter() - started), min(cpu, time.process_time() - used)
    size = len(json.dumps(outputs[0], separators=(",", ":")).encode())
    return {"way": name, "per_second": len(outputs) / wall, "per_cpu_second": len(outputs) / cpu, "bytes": size}


def _interface(options: argparse.Namespace, pairs: KnownPairs | None) -> XAIInterface:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        centroids = torch.nn.functional.normalize(torch.randn(options.subspaces, options.dimension), dim=1)
        sizes = {"embedding_dim": options.dimension, "num_subspaces": options.subspaces}
        model = SubspacePredictor({**sizes, "hidden_dim": 512}, centroids)
    names = [f"topic, number, {place}" for place in range(options.subspaces)]
    reference = np.linspace(0, 2, 1000, dtype=np.float32)
    return XAIInterface(model, centroids, names, known_pairs=pairs, atypicality_reference=reference)


def _bank(generator: np.random.Generator, count: int, dimension: int) -> KnownPairs:
    texts = [f"what is known of number {place}?" for place in range(count)]
    ids, titles = [f"q{place}" for place in range(count)], [f"Number {place}" for place in range(count)]
    return KnownPairs(_unit_rows(generator, count, dimension), texts, ids, ids, titles)


def _unit_rows(generator: np.random.Generator, count: int, dimension: int) -> Vectors:
    return unit(generator.standard_normal((count, dimension), dtype=np.float32))


def table(figures: dict[str, Any]) -> str:
    """Markdown: explanations per second and bytes of each, by way to ask."""
    sizes = f"{figures['pairs']:,} known pairs, D = {figures['dimension']}, K = {figures['subspaces']}"
    lines = [
        f"{figures['questions']:,} questions, {sizes}, {figures['threads']} threads",
        "",
        "| explained | per second | per CPU second | bytes of JSON each |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['way']} | {row['per_second']:,.0f} | {row['per_cpu_second']:,.0f} | {row['bytes']:,} |"
        for row in figures["ways"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
