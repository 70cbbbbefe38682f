"""Batches of a steering dataset beside a loader that makes them sample by sample, and beside the copying alone.

    python benchmarks/dataset.py --threads 2
    python benchmarks/dataset.py --pairs 20000 --batch-sizes 512 64 --rounds 9 --workers 2

A directory of random, seeded vectors is made in a temporary folder. The systems take turns within each round, with a
pause before each; figures are medians over the rounds, in microseconds per sample, on the wall clock and in CPU time
of all threads of this process (what workers spend is not in it). "copying" is `torch.index_select` of the rows of one
batch and nothing else: question, source, steering and negatives, the least that a batch of fresh memory costs. The
plainest loader is timed on `--plain-samples` samples.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from jasper_rag.data.conversion import write_checksums
from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.loader import create_loader
from jasper_rag.data.steering_dataset import JASPERSteeringDataset

PAUSE_SECONDS = 0.05
CLUSTERS = 64
KEYWORDS_OF_A_PAIR = 3


class PlainDataset(Dataset[dict[str, Tensor]]):
    """The same samples as a first draft would make them: one `__getitem__` each, collated by torch."""

    def __init__(self, dataset: JASPERSteeringDataset, count: int) -> None:
        self.tensors = dataset.tensors.all_tensors()
        self.keywords = dataset.pair_keyword_ids.to_lists()
        self.shares = list(dataset.steering_probs.values())
        self.rows = dataset.split_indices[:count]
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tensors, pair = self.tensors, int(self.rows[index])
        question = tensors["question_embs"][tensors["pair_index"][pair, 0]]
        centroid = tensors["centroid_embs"][tensors["pair_cluster_id"][pair]]
        variant = int(self.generator.choice(4, p=self.shares))
        if variant == 0:
            steering = torch.zeros_like(question)
        elif variant == 1:
            steering = normalize(centroid - question, dim=0)
        elif variant == 2:
            steering = normalize(tensors["keyword_embs"][torch.tensor(self.keywords[pair])].mean(0), dim=0)
        else:
            steering = question - centroid
        return {
            "question_emb": question,
            "target_source_emb": tensors["source_embs"][tensors["pair_index"][pair, 1]],
            "steering": steering,
            "negative_embs": tensors["source_embs"][tensors["hard_negatives"][pair]],
            "cluster_id": tensors["pair_cluster_id"][pair],
            "relevance": tensors["pair_relevance"][pair],
            "centroid_distance": tensors["centroid_distances"][pair],
            "steering_variant": torch.tensor(variant),
            "negative_tiers": tensors["negative_tiers"][pair],
        }


def write_dataset(root: Path, pairs: int, dimension: int, negatives: int, seed: int) -> None:
    """A directory in our format: as many sources as pairs, half as many questions, a tenth as many keywords."""
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> Tensor:
        return normalize(torch.randn(rows, dimension, generator=generator), dim=1)

    rows = torch.arange(pairs)
    order = torch.randperm(pairs // 2, generator=generator)
    first, second = int(0.8 * len(order)), int(0.9 * len(order))
    splits = {"train": order[:first], "val": order[first:second], "test": order[second:]}
    step = torch.randint(2, pairs // (negatives + 1), (pairs, 1), generator=generator)
    tensors = {
        "question_embs": unit(pairs // 2),
        "source_embs": unit(pairs),
        "keyword_embs": unit(pairs // 10),
        "centroid_embs": unit(CLUSTERS),
        "pair_index": torch.stack([rows // 2, rows], dim=1),
        "pair_cluster_id": torch.randint(CLUSTERS, (pairs,), generator=generator),
        "pair_relevance": torch.rand(pairs, generator=generator),
        "hard_negatives": (rows[:, None] + step * torch.arange(1, negatives + 1)) % pairs,
        "negative_tiers": (torch.arange(negatives) % 4 + 1).repeat(pairs, 1),
        **{f"{name}_idx": torch.cat([2 * part, 2 * part + 1]) for name, part in splits.items()},
    }
    questions = tensors["question_embs"][tensors["pair_index"][:, 0]]
    tensors["centroid_distances"] = 1 - (questions * tensors["centroid_embs"][tensors["pair_cluster_id"]]).sum(1)
    for name, tensor in tensors.items():
        save_file({name: tensor.contiguous()}, root / f"{name}.safetensors")
    links = torch.randint(pairs // 10, (pairs * KEYWORDS_OF_A_PAIR,), generator=generator)
    ragged = {"values": links, "offsets": torch.arange(pairs + 1) * KEYWORDS_OF_A_PAIR}
    save_file(ragged, root / "pair_keyword_ids.safetensors")
    config = {"format_version": 1, "embedding_dim": dimension, "n_neg": negatives, "curriculum": {"mode": "linear"}}
    (root / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_checksums(root)


def copying(dataset: JASPERSteeringDataset, batch_size: int) -> Callable[[], int]:
    """`index_select` of the rows of an epoch, batch by batch; returns the number of samples."""
    pairs = dataset.split_indices[torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))]
    sides, negatives = dataset.pair_index[pairs], dataset.hard_negatives[pairs]
    batches = [
        (sides[start : start + batch_size, 0].clone(), sides[start : start + batch_size, 1].clone(), part.reshape(-1))
        for start, part in (
            (start, negatives[start : start + batch_size]) for start in range(0, len(pairs), batch_size)
        )
    ]

    def run() -> int:
        kept: list[Tensor] = []
        for questions, sources, hard in batches:
            # The last batch is held until the next is made, as a training loop does.
            kept = [dataset.question_embs.index_select(0, rows) for rows in (questions, questions)]
            kept += [dataset.source_embs.index_select(0, rows) for rows in (sources, hard)]
        return len(pairs) if kept else 0

    return run


def consuming(loader: DataLoader[Any]) -> Callable[[], int]:
    """Iterate over a loader once; returns the number of samples."""

    def run() -> int:
        return sum(len(batch["cluster_id"]) for batch in loader)

    return run


def measured(systems: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU microseconds per sample by system."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for turn in range(rounds + 1):
        names = list(systems)[turn % len(systems) :] + list(systems)[: turn % len(systems)]
        for name in names:
            time.sleep(PAUSE_SECONDS)
            wall, cpu = time.perf_counter(), time.process_time()
            count = systems[name]()
            spent = (1e6 * (time.perf_counter() - wall) / count, 1e6 * (time.process_time() - cpu) / count)
            if turn:  # the first round warms up
                times[name].append(spent)
    return {name: tuple(np.median(values, axis=0).tolist()) for name, values in times.items()}


def compare(dataset: JASPERSteeringDataset, batch_size: int, settings: argparse.Namespace) -> None:
    """Print one table."""
    plain = PlainDataset(dataset, settings.plain_samples)
    systems = {
        "sample by sample": consuming(DataLoader(plain, batch_size=batch_size, shuffle=True)),
        "create_loader": consuming(create_loader(dataset, "train", batch_size)),
        "plain DataLoader": consuming(DataLoader(dataset, batch_size=batch_size, shuffle=True)),
        "copying": copying(dataset, batch_size),
    }
    if settings.workers:
        workers = create_loader(dataset, "train", batch_size, settings.workers)
        systems[f"create_loader, {settings.workers} workers"] = consuming(workers)
    figures = measured(systems, settings.rounds)
    (plain_wall, plain_cpu), (copy_wall, copy_cpu) = figures["sample by sample"], figures["copying"]
    print(f"\nbatches of {batch_size}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':26}{'wall us':>9}{'CPU us':>9}{'x plain':>9}{'x CPU':>8}{'of copying':>12}{'of CPU':>8}")
    for name, (wall, cpu) in figures.items():
        ratios = f"{plain_wall / wall:9.1f}{plain_cpu / cpu:8.1f}{copy_wall / wall:12.2f}{copy_cpu / cpu:8.2f}"
        print(f"{name:26}{wall:9.2f}{cpu:9.2f}{ratios}")


def private() -> float:
    """MiB that this process has written to and shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def loading(root: Path, rounds: int) -> JASPERSteeringDataset:
    """Print time and memory of loading all three splits; returns the train split."""
    before, times = private(), []
    splits = JASPERSteeringDataset.create_combined_splits(root)
    grown = private() - before
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        splits = JASPERSteeringDataset.create_combined_splits(root)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(times, axis=0)
    told = splits["train"].memory_usage_mb
    print(f"three splits: {wall:.3f} s ({cpu:.3f} CPU-s), memory_usage_mb {told:.1f}, private memory {grown:+.1f} MiB")
    return splits["train"]


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--negatives", type=int, default=8)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[512, 128, 64])
    parser.add_argument("--plain-samples", type=int, default=2_000, help="samples of the plainest loader in a round")
    parser.add_argument("--workers", type=int, default=0, help="measure with worker processes too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    warnings.simplefilter("ignore", DatasetWarning)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} CPUs")
    print(f"{settings.pairs:,} pairs, {settings.dimension} dimensions, {settings.negatives} negatives")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # In a process of its own: memory it gave back would hide what loading takes.
        arguments = (root, settings.pairs, settings.dimension, settings.negatives, settings.seed)
        writer = multiprocessing.get_context("spawn").Process(target=write_dataset, args=arguments)
        writer.start()
        writer.join()
        dataset = loading(root, settings.rounds)
        for batch_size in settings.batch_sizes:
            compare(dataset, batch_size, settings)


if __name__ == "__main__":
    main()
