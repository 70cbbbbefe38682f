"""What a prediction adds to a question: encoding one question beside moving its vector, one thread, one at a time.

    OMP_NUM_THREADS=1 python benchmarks/query_time.py --run runs/demo --questions 500
    OMP_NUM_THREADS=1 python benchmarks/query_time.py --data DATA/tldr --questions 500 --output query_time.json

With --run the model of a run directory is taken, with --data one is trained. The questions are those of the set's test
split (with --run: the titles or first words of its documents). Each question is encoded, then transformed (prediction,
gate, blend), so that the transform finds the processor's caches as an encoder leaves them. CPU time is the thread's
own: on a busy machine the wall clock shows the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jasper_rag.atomic_files import write_json
from jasper_rag.jasper import Jasper
from jasper_rag.text.readers import read_retrieval_set

WARM_UP = 20
"""Questions before the first one that counts."""
WORDS = 12
"""Words of a document that stand in for a question."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="run directory or model folder")
    source.add_argument("--data", type=Path, help="set to train on")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args(arguments)
    jasper, texts = _from_run(options.run) if options.run is not None else _from_set(options.data)
    torch.set_num_threads(1)
    figures = measured(jasper, texts[: WARM_UP + options.questions])
    print(table(figures))
    if options.output is not None:
        write_json(options.output, figures)


def _from_run(directory: Path) -> tuple[Jasper, list[str]]:
    jasper = Jasper.load(directory)
    return jasper, [" ".join(document.content.split()[:WORDS]) for document in jasper.model.documents]


def _from_set(directory: Path) -> tuple[Jasper, list[str]]:
    jasper = Jasper.fit(read_retrieval_set(directory))
    assert jasper.record is not None
    return jasper, list(jasper.record.embedded.splits["test"].texts)


def measured(jasper: Jasper, texts: Sequence[str]) -> dict[str, Any]:
    """Wall and CPU milliseconds, p50 and p95, of encoding and of transforming one question."""
    clocks: dict[str, list[tuple[float, float]]] = {"encode": [], "transform": []}
    for text in texts:
        vectors, taken = _timed(partial(jasper.encoder.encode, [text], "query"))
        clocks["encode"].append(taken)
        _, taken = _timed(partial(jasper.transform, vectors))
        clocks["transform"].append(taken)
    figures: dict[str, Any] = {"questions": max(len(texts) - WARM_UP, 0), "documents": len(jasper.model.documents)}
    for name, times in clocks.items():
        counted = 1e3 * np.array(times[WARM_UP:])
        p50, p95 = np.quantile(counted, [0.5, 0.95], axis=0)
        figures[name] = {"wall_p50": p50[0], "wall_p95": p95[0], "cpu_p50": p50[1], "cpu_p95": p95[1]}
    figures["share"] = {
        clock: figures["transform"][clock] / figures["encode"][clock] for clock in ("wall_p50", "cpu_p50")
    }
    return figures


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    wall, cpu = time.perf_counter(), time.thread_time()
    result = work()
    return result, (time.perf_counter() - wall, time.thread_time() - cpu)


def table(figures: dict[str, Any]) -> str:
    """Markdown: milliseconds of both steps, and the share."""
    lines = ["| one question, ms | wall p50 | wall p95 | CPU p50 | CPU p95 |", "|---|---|---|---|---|"]
    for name, title in (("encode", "encode"), ("transform", "transform (prediction, gate, blend)")):
        cells = " | ".join(f"{figures[name][clock]:.2f}" for clock in ("wall_p50", "wall_p95", "cpu_p50", "cpu_p95"))
        lines.append(f"| {title} | {cells} |")
    share = figures["share"]
    lines.append(
        f"\nThe transform adds {share['wall_p50']:.1%} of the encoding's wall time, {share['cpu_p50']:.1%} of CPU."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
