"""What each part of the training is worth: one table, every row one change of the same settings.

    python benchmarks/ablation.py --dataset-dir datasets/wiki --seeds 0 1 2 --output ablation.json

The dataset comes from `jasper build`. Figures are nDCG@10 of the best epoch (by val, without steering) on the test
split, ungated, means over the seeds: without steering, steered to the answer's topic, and the question itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jasper_rag.atomic_files import write_json
from jasper_rag.training.run_config import load_run_config
from jasper_rag.training.training_run import prepare_run

BASE = {
    "training.batch_size": 512,
    "training.num_epochs": 12,
    "training.warmup_epochs": 1,
    "training.learning_rate": 1e-3,
    "training.early_stopping_patience": 5,
    "training.save_every_n_epochs": 0,
    "loss.contrastive_temperature": 0.025,
    "steering.probabilities": {"zero": 0.5, "centroid": 0.5},
}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "all of it": {},
    "without SmoothL1": {"loss.lambda_jasper": 0.0},
    "without InfoNCE": {"loss.lambda_contrastive": 0.0},
    "without the centroid loss": {"loss.lambda_centroid": 0.0},
    "without VICReg": {"loss.lambda_vicreg": 0.0},
    "InfoNCE alone": {"loss.lambda_jasper": 0.0, "loss.lambda_centroid": 0.0, "loss.lambda_vicreg": 0.0},
    "SmoothL1 alone": {"loss.lambda_contrastive": 0.0, "loss.lambda_centroid": 0.0, "loss.lambda_vicreg": 0.0},
    "VICReg unscaled": {"loss.vicreg_scale": False},
    "negatives: batch and hard": {"loss.negatives": "batch"},
    "negatives: hard alone": {"loss.negatives": "hard"},
    "target: ema": {"ema.target": "ema"},
    "without the MLP": {"model.mlp": False},
    "MLP at full size": {"model.mlp_scale": 1.0},
    "without residual and linear path": {"model.residual": False, "model.linear_path": False},
    "curriculum of the dataset": {"steering.probabilities": None},
    "never steered": {"steering.probabilities": {"zero": 1.0}},
}
FIGURES = ("ndcg@10", "ndcg@10_centroid", "ndcg@10_question")


def main() -> None:
    """Train every row with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset-dir", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=BASE["training.num_epochs"])
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, list[dict[str, float]]] = {}
    print("| settings | val | test | spread | steered to the topic | question |\n|---|---|---|---|---|---|", flush=True)
    for name in options.rows:
        changes = {**BASE, "training.num_epochs": options.epochs, **ROWS[name]}
        runs = [_run(options.dataset_dir, {**changes, "training.seed": seed}) for seed in options.seeds]
        results[name] = runs
        zero, steered, question = (statistics.fmean(run[key] for run in runs) for key in FIGURES)
        values = [run["ndcg@10"] for run in runs]
        val = statistics.fmean(run["val"] for run in runs)
        spread = f"{min(values):.3f}-{max(values):.3f}"
        print(f"| {name} | {val:.3f} | {zero:.3f} | {spread} | {steered:.3f} | {question:.3f} |", flush=True)
        if options.output is not None:
            write_json(options.output, results)


def _run(dataset_dir: Path, changes: dict[str, Any]) -> dict[str, float]:
    probabilities = changes.pop("steering.probabilities")
    config = load_run_config(None, changes)
    steering = {"probabilities": probabilities, "curriculum": {"mode": "none"} if probabilities else None}
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(type(config)(**{**config.to_dict(), "steering": steering}), dataset_dir, folder)
        run.trainer.fit()
        run.trainer.load_best()
        value = run.trainer.best_metric[1]
        assert value is not None
        return {**run.measure("test"), "val": value}


if __name__ == "__main__":
    main()
