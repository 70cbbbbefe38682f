"""Exact search beside faiss IndexFlatIP and `torch.matmul` + `topk`, and the latency of one query on a large corpus.

    python benchmarks/search.py --documents 100000 --queries 1 32 512
    python benchmarks/search.py --documents 0 --large 1000000

Vectors are random, seeded and clustered. Systems take turns within each round, with a pause before each call, so that
threads still spinning after one call are not charged to the next; medians are over the rounds. CPU seconds count all
threads. A ratio of ours to the best of the others is printed for both clocks.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.retrieval.vector_index import ExactIndex

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], NDArray[Any]]

CLUSTER = 100
PEERS = ("faiss IndexFlatIP", "torch matmul + topk")
PAUSE_SECONDS = 0.03


def clustered(count: int, dimension: int, seed: int) -> Vectors:
    """Unit vectors around count / 100 centres, float32 [count, dimension]."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(count // CLUSTER, 2), dimension), dtype=np.float32)
    vectors = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, 65_536):
        part = vectors[start : start + 65_536]
        part[:] = centres[generator.integers(0, len(centres), len(part))]
        part += 0.8 * generator.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def questions(documents: Vectors, count: int, seed: int) -> Vectors:
    """Unit vectors near documents, float32 [count, D]."""
    generator = np.random.default_rng(seed)
    near = documents[generator.choice(len(documents), count, replace=count > len(documents))]
    noise = generator.standard_normal(near.shape, dtype=np.float32) * np.float32(0.6 / near.shape[1] ** 0.5)
    unit: Vectors = (near + noise) / np.linalg.norm(near + noise, axis=1, keepdims=True)
    return unit


def measured(systems: dict[str, Search], asked: Sequence[Vectors], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Wall and CPU milliseconds of every call, [rounds * len(asked), 2] by system."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for search in systems.values():
        search(asked[0])
    for turn in range(rounds):
        order = list(systems)[turn % len(systems) :] + list(systems)[: turn % len(systems)]
        for queries in asked:
            for name in order:
                time.sleep(PAUSE_SECONDS)
                wall, cpu = time.perf_counter(), time.process_time()
                systems[name](queries)
                times[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    return {name: np.array(values) for name, values in times.items()}


def recall(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Mean share of the expected rows that were found."""
    pairs = zip(found.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def systems_over(documents: Vectors, k: int) -> dict[str, Search]:
    """Everything compared, name -> search that returns rows."""
    flat = faiss.IndexFlatIP(documents.shape[1])
    flat.add(documents)
    tensor = torch.from_numpy(documents)
    ours = {f"ExactIndex {storage}": ExactIndex(documents, storage) for storage in ("float32", "float16", "int8")}
    return {
        PEERS[0]: lambda queries: flat.search(queries, k)[1],
        PEERS[1]: lambda queries: torch.topk(torch.matmul(torch.from_numpy(queries), tensor.T), k).indices.numpy(),
        **{name: lambda queries, index=index: index.search(queries, k)[1] for name, index in ours.items()},  # type: ignore[misc]
    }


def compare(documents: Vectors, batches: Sequence[int], k: int, rounds: int, seed: int) -> None:
    """Print one table per number of queries."""
    systems = systems_over(documents, k)
    for batch in batches:
        queries = questions(documents, batch, seed)
        expected = systems[PEERS[0]](queries)
        times = measured(systems, [queries], max(3, rounds if batch <= 64 else rounds // 3))
        medians = {name: np.median(values, axis=0) for name, values in times.items()}
        best = np.min([medians[name] for name in PEERS], axis=0)
        print(f"\n{len(documents):,} x {documents.shape[1]}, {batch} queries, k = {k}; load {os.getloadavg()[0]:.1f}")
        print(f"{'':22}{'wall ms':>10}{'CPU ms':>10}{'wall ratio':>12}{'CPU ratio':>11}{'recall':>9}")
        for name, (wall, cpu) in medians.items():
            ratios = (wall / best[0], cpu / best[1])
            found = recall(systems[name](queries), expected)
            print(f"{name:22}{wall:10.2f}{cpu:10.2f}{ratios[0]:12.2f}{ratios[1]:11.2f}{found:9.4f}")


def latency(documents: Vectors, count: int, k: int, seed: int) -> None:
    """Print percentiles of one query at a time, float32, float16 and int8 with rescoring."""
    queries = questions(documents, count, seed)
    indexes = {storage: ExactIndex(documents, storage) for storage in ("float32", "float16", "int8")}
    systems: dict[str, Search] = {
        name: lambda queries, index=index: index.search(queries, k)[1]  # type: ignore[misc]
        for name, index in indexes.items()
    }
    times = measured(systems, [queries[place : place + 1] for place in range(count)], rounds=1)
    expected = indexes["float32"].search(queries, k)[1]
    shape = f"{len(documents):,} x {documents.shape[1]}"
    print(f"\n{shape}, one query at a time, {count} queries, k = {k}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':22}{'p50 ms':>10}{'p95 ms':>10}{'CPU p50':>10}{'recall':>9}")
    for name, values in times.items():
        found = np.concatenate([systems[name](queries[place : place + 1]) for place in range(count)])
        p50, p95 = np.percentile(values[:, 0], [50, 95])
        cpu = np.median(values[:, 1])
        print(f"{'ExactIndex ' + name:22}{p50:10.2f}{p95:10.2f}{cpu:10.2f}{recall(found, expected):9.4f}")


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000, help="corpus of the comparison; 0: leave it out")
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 512], help="queries asked at a time")
    parser.add_argument("--large", type=int, default=1_000_000, help="corpus of the latency figures; 0: leave them out")
    parser.add_argument("--large-queries", type=int, default=100, help="queries of the latency figures")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="for torch and faiss; for NumPy set OPENBLAS_NUM_THREADS as well")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    if settings.threads:
        torch.set_num_threads(settings.threads)
        faiss.omp_set_num_threads(settings.threads)
    versions = f"torch {torch.__version__}, faiss {faiss.__version__}, NumPy {np.__version__}"
    print(f"{versions}; {torch.get_num_threads()} threads")
    if settings.documents:
        documents = clustered(settings.documents, settings.dimension, settings.seed)
        compare(documents, settings.queries, settings.k, settings.rounds, settings.seed + 1)
    if settings.large:
        documents = clustered(settings.large, settings.dimension, settings.seed)
        latency(documents, settings.large_queries, settings.k, settings.seed + 1)


if __name__ == "__main__":
    main()
