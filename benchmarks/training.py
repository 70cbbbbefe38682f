"""An epoch of the trainer beside its bare matrix products, and beside the plainest loop over a plain loader.

    python benchmarks/training.py --threads 2
    python benchmarks/training.py --device cuda --precision bf16 --batch-size 8192 --hidden-dim 2048

A directory of random, seeded vectors is made in a temporary folder (as in `benchmarks/dataset.py`). The documented
network (no residual, no linear path: all of it is matrix products) is trained with all four losses and the batch's own
negatives. The three take turns within each round; figures are medians over the rounds.

    trainer    `JASPERTrainer.train_epoch`: gathering, forward, losses, backward, clipping, optimiser, EMA, metrics
    products   the matrix products of the same number of steps and nothing else: of every linear layer forward and twice
               backward, of the losses' logits and statistics; on buffers that are already there
    plain      the loop of the documents' example over samples that are made and collated one by one, with torch's
               dropout and AdamW as they come, the same losses, and one `.item()` per loss and step

The share of a step that waits for data is measured in one more epoch, by the clock around each batch.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from jasper_rag.data.findings import DatasetWarning
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.training.run_config import RunConfig
from jasper_rag.training.training_run import TrainingRun, prepare_run

Timed = Callable[[], None]


def main() -> None:
    """Measure and print."""
    options = _parsed()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", DatasetWarning)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dataset"
        root.mkdir()
        _dataset_benchmark().write_dataset(root, options.pairs, options.dimension, options.negatives, 0)
        run = prepare_run(_settings(options), root, Path(folder) / "run")
        steps = len(run.trainer._source)
        epochs = iter(range(10**6))
        systems: dict[str, Timed] = {
            "trainer": lambda: _quietly(run.trainer.train_epoch, next(epochs)),
            "products": _products(run, options.batch_size, steps, device, options.precision),
            "plain": _plain_loop(run, options.batch_size, device),
        }
        seconds = _in_turns(systems, options.rounds, device)
        waiting = _waiting_share(run, device)
    samples = steps * options.batch_size
    print(
        f"{options.pairs:,} pairs, D {options.dimension}, hidden {options.hidden_dim}, {options.layers} layers, ",
        end="",
    )
    print(
        f"{options.negatives} negatives, batch {options.batch_size}, {device}, {options.threads} threads, {steps} steps"
    )
    print("\n| | epoch, s | samples/s | x products |\n|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {samples / value:,.0f} | {value / seconds['products']:.2f} |")
    print(f"\ntrainer against the plain loop: {seconds['plain'] / seconds['trainer']:.2f} times as fast")
    print(f"share of the trainer's epoch that waits for batches: {waiting:.1%}")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--hidden-dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--negatives", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the predictor")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> RunConfig:
    mixed = options.precision != "fp32"
    return RunConfig(
        model={
            "embedding_dim": options.dimension,
            "hidden_dim": options.hidden_dim,
            "num_layers": options.layers,
            "residual": False,
            "linear_path": False,
        },
        loss={"negatives": "batch"},
        training={
            "batch_size": options.batch_size,
            "device": options.device,
            "mixed_precision": mixed,
            "precision": options.precision if mixed else "auto",
            "compile": options.compile,
        },
        dataset={"n_neg": options.negatives},
    )


def _quietly(train_epoch: Callable[[int], Any], epoch: int) -> None:
    train_epoch(epoch)


def _products(run: TrainingRun, batch: int, steps: int, device: torch.device, precision: str) -> Timed:
    """The products of one step, `steps` times."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(rows: int, inner: int, columns: int, kind: torch.dtype) -> None:
        left, right = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        pairs.append((left.to(kind), right.to(kind), torch.empty(rows, columns, dtype=kind, device=device)))

    model = run.trainer.model
    assert isinstance(model, JASPERPredictor)
    first = {model.question_encoder[0], model.steering_encoder[0]}
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            add(batch, layer.in_features, layer.out_features, dtype)
            add(layer.out_features, batch, layer.in_features, dtype)
            if layer not in first:  # the inputs need no gradient
                add(batch, layer.out_features, layer.in_features, dtype)
    dimension, dataset = model.embedding_dim, run.datasets["train"]
    for columns in (batch, len(dataset.centroid_embs)):  # in-batch and centroid logits, and their gradient
        add(batch, dimension, columns, torch.float32)
        add(batch, columns, dimension, torch.float32)
    add(dimension, batch, dimension, torch.float32)  # covariance, and its gradient
    add(batch, dimension, dimension, torch.float32)
    hard = torch.randn(batch, dataset.n_neg, dimension, device=device)
    one, logits = torch.randn(batch, dimension, 1, device=device), torch.randn(batch, 1, dataset.n_neg, device=device)

    def run_steps() -> None:
        for _ in range(steps):
            for left, right, out in pairs:
                torch.mm(left, right, out=out)
            torch.bmm(hard, one)
            torch.bmm(logits, hard)

    return run_steps


def _plain_loop(run: TrainingRun, batch: int, device: torch.device) -> Timed:
    dataset = run.datasets["train"]
    plain = _dataset_benchmark().PlainDataset(dataset, len(dataset))
    loader = DataLoader(plain, batch_size=batch, shuffle=True, drop_last=True)
    model = JASPERPredictor(run.config.model).to(device)
    for part in (model.question_encoder, model.steering_encoder, model.predictor_head):
        for place, layer in enumerate(part):
            if isinstance(layer, nn.Dropout):
                part[place] = nn.Dropout(layer.p)
    loss_fn, ema = run.trainer.loss_fn, run.trainer.ema_encoder
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def epoch() -> None:
        totals: dict[str, float] = {}
        for collated in loader:
            found = {key: tensor.to(device) for key, tensor in collated.items()}
            predicted = model(found["question_emb"], found["steering"])
            target = ema.encode_target(found["target_source_emb"])
            total, parts = loss_fn(
                predicted, target, found["negative_embs"], dataset.centroid_embs, found["cluster_id"]
            )
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + value.item()

    return epoch


def _in_turns(systems: dict[str, Timed], rounds: int, device: torch.device) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds + 1):
        for name, work in systems.items():
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _waiting_share(run: TrainingRun, device: torch.device) -> float:
    """Time to make the batches of an epoch, and nothing else, over the time of an epoch."""
    source = run.trainer._source
    durations = []
    for work in (lambda: [None for _ in source.epoch(0)], lambda: _quietly(run.trainer.train_epoch, 0)):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        durations.append(time.perf_counter() - started)
    return durations[0] / durations[1]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _dataset_benchmark() -> ModuleType:
    path = Path(__file__).with_name("dataset.py")
    spec = importlib.util.spec_from_file_location("dataset_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
