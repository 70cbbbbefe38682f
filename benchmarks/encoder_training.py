"""Full fine-tuning beside sentence-transformers' own trainer: samples per second on the same loss, batch and length.

    python benchmarks/encoder_training.py --data-root DATA --set tldr --pairs 2000 --batch-size 16

Both train all of the base on (query, document) pairs by the softmax over the documents of the batch (temperature .05;
MultipleNegativesRankingLoss with scale 20), AdamW, dropout as the model has it, float32 or bfloat16. They take turns
within each round, over the same pairs; figures are medians over the rounds. Ours has its head on top. Processor time
stands beside wall time, for machines that are shared. Needs the `train` extra.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.text.pair_files import TrainingExample, write_examples
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_run import prepare_encoder_run
from jasper_rag.training.encoder_trainer import run_batches

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of BEIR folders")
    parser.add_argument("--set", dest="name", default="tldr")
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-seq-length", type=int, default=256)
    parser.add_argument("--base-model", default=BASE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mixed-precision", action="store_true", help="bfloat16, on a GPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    pairs = _sample(options.data_root / options.name, options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        systems = {
            "ours": _ours(options, pairs, Path(folder)),
            "sentence-transformers": _theirs(options, pairs, folder),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for number in range(options.rounds):
            for name in list(systems)[:: 1 if number % 2 == 0 else -1]:
                found[name].append(_timed(systems[name], options.device))
    print(
        f"{len(pairs):,} pairs of {options.name}, batch {options.batch_size}, {options.max_seq_length} tokens, ", end=""
    )
    print(f"{options.device}, {options.threads} threads, {options.rounds} rounds")
    print("\n| | wall s | CPU s | samples/s | samples per CPU-s |\n|---|---|---|---|---|")
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (wall, cpu) in middle.items():
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {len(pairs) / wall:.1f} | {len(pairs) / cpu:.1f} |")
    ratios = [theirs / ours for ours, theirs in zip(*middle.values(), strict=True)]
    print(
        f"\nours against sentence-transformers: {ratios[0]:.2f} times as fast by the clock, {ratios[1]:.2f} by CPU time"
    )


def _sample(folder: Path, count: int) -> list[TrainingExample]:
    found = read_retrieval_set(folder)
    documents = {document.id: document.content for document in found.documents}
    queries = {query.id: query.text for query in found.queries}
    pairs = [
        TrainingExample(queries[query], documents[document])
        for query, judged in found.qrels["train"].items()
        for document, grade in judged.items()
        if grade > 0
    ]
    rows = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[row] for row in rows]


def _ours(options: argparse.Namespace, pairs: Sequence[TrainingExample], folder: Path) -> Callable[[], None]:
    write_examples(folder / "train.json", pairs)
    config = EncoderTrainingConfig(
        train_data=str(folder / "train.json"),
        output_dir=str(folder / "ours"),
        base_model=options.base_model,
        output_dim=384,
        batch_size=options.batch_size,
        max_seq_length=options.max_seq_length,
        lambda_isotropy=0,
        lambda_reg=0,
        epochs=1_000,
        device=options.device,
        mixed_precision=options.mixed_precision,
    )
    trainer = prepare_encoder_run(config)
    trainer.model.train()
    epochs = iter(range(1, 1_000))

    def epoch() -> None:
        for batch in trainer._source.batches(run_batches(trainer._table, trainer.config, next(epochs))):
            trainer.step(batch)

    return epoch


def _theirs(options: argparse.Namespace, pairs: Sequence[TrainingExample], folder: str) -> Callable[[], None]:
    loaded = SentenceEncoder(options.base_model, device=options.device, max_seq_length=options.max_seq_length)
    model: SentenceTransformer = loaded.model
    columns = {"anchor": [pair.query for pair in pairs], "positive": [pair.positive for pair in pairs]}
    dataset = Dataset.from_dict(columns)
    settings = SentenceTransformerTrainingArguments(
        output_dir=f"{folder}/theirs",
        num_train_epochs=1,
        per_device_train_batch_size=options.batch_size,
        learning_rate=2e-5,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=options.device == "cpu",
        bf16=options.mixed_precision,
    )
    loss = MultipleNegativesRankingLoss(model)

    def epoch() -> None:
        trainer = SentenceTransformerTrainer(model=model, args=settings, train_dataset=dataset, loss=loss)
        trainer.train()

    return epoch


def _timed(work: Callable[[], None], device: str) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
