"""The subspace model beside the plain predictor: same dataset, same settings, same seed; ranking and routing on test.

    jasper build --data DATA/tldr --output-dir DATASETS/tldr                 # once for each set
    python benchmarks/subspace.py --datasets DATASETS --sets tldr medquad scifact squadshifts_wiki

Both predict by linear paths, trained by the softmax over all sources on a ramp of the learning rate, as `jasper fit`
does; the subspace model also learns its router, by all four routing losses. Best epoch by val, asked without steering,
neither guarded nor beside BM25. Router: share of test questions whose answer lies in its first topic / first three.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jasper_rag.atomic_files import write_json
from jasper_rag.training.run_config import load_run_config
from jasper_rag.training.subspace_config import load_subspace_config
from jasper_rag.training.subspace_run import prepare_subspace_run, routing_accuracy
from jasper_rag.training.training_run import TrainingRun, prepare_run

SETTINGS: Mapping[str, Any] = {
    "model.mlp": False,
    "loss.lambda_jasper": 0.0,
    "loss.lambda_centroid": 0.0,
    "loss.lambda_vicreg": 0.0,
    "loss.lambda_contrastive": 1.0,
    "loss.contrastive_temperature": 0.025,
    "training.batch_size": 512,
    "training.schedule": "ramp",
    "training.learning_rate_start": 1e-4,
    "training.learning_rate": 3e-3,
    "training.weight_decay": 0.0,
    "training.max_grad_norm": 0.0,
    "training.validate_every_n_steps": 20,
    "training.validate_every_n_epochs": 0,
    "training.early_stopping_patience": 6,
    "training.save_every_n_epochs": 0,
    "steering.probabilities": {"zero": 1.0},
    "dataset.n_neg": None,
}
STEPS = 500


def main() -> None:
    """Train both models on every set with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, required=True, help="folder of steering datasets")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, help="write every figure here as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| set | question | plain predictor | subspace model | nearest centroid @1 / @3 | router @1 / @3 |")
    print("|---|---|---|---|---|---|", flush=True)
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.sets:
        results[name] = [_both(options.datasets / name, seed) for seed in options.seeds]
        mean = {key: float(np.mean([one[key] for one in results[name]])) for key in results[name][0]}
        print(
            f"| {name} | {mean['question']:.4f} | {mean['plain']:.4f} | {mean['subspace']:.4f} | "
            f"{mean['nearest_centroid@1']:.3f} / {mean['nearest_centroid@3']:.3f} | "
            f"{mean['accuracy@1']:.3f} / {mean['accuracy@3']:.3f} |",
            flush=True,
        )
    if options.output is not None:
        write_json(options.output, results)


def _both(dataset: Path, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        overrides = {**SETTINGS, "training.seed": seed, "training.device": "cpu", "training.max_steps": STEPS}
        overrides["training.num_epochs"] = STEPS  # never reached: the steps end it
        plain = prepare_run(load_run_config(None, overrides), dataset, Path(folder) / "plain")
        found = {"plain": _measured(plain)["ndcg@10"]}
        subspace = prepare_subspace_run(load_subspace_config(None, overrides), dataset, Path(folder) / "subspace")
        measured = _measured(subspace)
        return {
            **found,
            "subspace": measured["ndcg@10"],
            "question": measured["ndcg@10_question"],
            **routing_accuracy(subspace.trainer.model, subspace.datasets["test"]),
        }


def _measured(run: TrainingRun) -> dict[str, float]:
    run.trainer.fit()
    run.trainer.load_best()
    return run.measure("test")


if __name__ == "__main__":
    main()
