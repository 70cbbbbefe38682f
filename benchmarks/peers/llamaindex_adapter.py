"""Trains LlamaIndex's linear adapter on vectors that were made before; runs in the environment of `requirements.txt`.

    python llamaindex_adapter.py EXCHANGE

Reads from the folder EXCHANGE
    vectors.safetensors   documents [N, D], train [Q, D], dev [Q', D], test [Q'', D]: float32
    request.json          {"relevant": rows of `documents` for each row of `train`, "runs": [{"epochs": ..,
                          "learning_rate": null or a number, "shuffle_seed": null or an integer}, ..]}
and writes for every run, numbered from 0,
    <run>.safetensors     dev [E, Q', D] and test [E, Q'', D]: the questions as adapted after each of E epochs
    <run>.json            {"cpu_seconds": .., "wall_seconds": ..} of training alone, imports and this reading left out

The engine embeds every text of every epoch anew. Here a text is the name of a row and its embedding a look-up, so what
is measured is the engine without an encoder.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.finetuning import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset
from safetensors.torch import load_file, save_file
from torch import Tensor

BATCH_SIZE = 10
"""The engine's default; it is needed to know after how many steps an epoch ends."""

WARM_UP = {"epochs": 1, "learning_rate": None}


class StoredVectors(BaseEmbedding):
    """An embedding model that looks up what it is asked for: row name -> vector."""

    _vectors: dict[str, Tensor] = PrivateAttr()

    def __init__(self, vectors: dict[str, Tensor]) -> None:
        super().__init__(model_name="stored vectors")
        self._vectors = vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return list(self._vectors[query].tolist())

    def _get_text_embedding(self, text: str) -> list[float]:
        return list(self._vectors[text].tolist())

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def main() -> None:
    """Answer every run of one request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exchange", type=Path)
    folder: Path = parser.parse_args().exchange
    vectors = load_file(folder / "vectors.safetensors")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    named = {f"{kind} {row}": vector for kind in ("train", "documents") for row, vector in enumerate(vectors[kind])}
    # What is imported at the first use is not charged to the first run.
    train(StoredVectors(named), dataset(request["relevant"][:BATCH_SIZE], None), WARM_UP, folder / "warm_up")
    for number, run in enumerate(request["runs"]):
        trained = folder / f"trained_{number}"
        seconds = train(StoredVectors(named), dataset(request["relevant"], run["shuffle_seed"]), run, trained)
        adapted = {split: adapt(vectors[split], trained, run["epochs"]) for split in ("dev", "test")}
        save_file(adapted, folder / f"{number}.safetensors")
        (folder / f"{number}.json").write_text(json.dumps(seconds), encoding="utf-8")


def dataset(relevant: Sequence[Sequence[int]], shuffle_seed: int | None) -> EmbeddingQAFinetuneDataset:
    """The engine's dataset: it goes through the questions in this order and takes the first document of each."""
    rows = list(range(len(relevant)))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(rows)
    return EmbeddingQAFinetuneDataset(
        queries={str(row): f"train {row}" for row in rows},
        corpus={str(document): f"documents {document}" for row in rows for document in relevant[row]},
        relevant_docs={str(row): [str(document) for document in relevant[row]] for row in rows},
    )


def train(
    embed_model: StoredVectors, pairs: EmbeddingQAFinetuneDataset, run: dict[str, Any], folder: Path
) -> dict[str, float]:
    """Train one adapter; leaves its weights after every epoch below `folder`."""
    rate = run["learning_rate"]
    wall, cpu = time.perf_counter(), time.process_time()
    engine = EmbeddingAdapterFinetuneEngine(
        pairs,
        embed_model,
        batch_size=BATCH_SIZE,
        epochs=run["epochs"],
        dim=len(embed_model.get_text_embedding("documents 0")),
        device="cpu",
        model_output_path=str(folder / "last"),
        model_checkpoint_path=str(folder),
        checkpoint_save_steps=steps_per_epoch(pairs),
        show_progress_bar=False,
        **({} if rate is None else {"optimizer_params": {"lr": rate}}),
    )
    engine.finetune()
    return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


def steps_per_epoch(pairs: EmbeddingQAFinetuneDataset) -> int:
    """Batches of one epoch, the last one perhaps smaller."""
    return -(-len(pairs.queries) // BATCH_SIZE)


def adapt(questions: Tensor, folder: Path, epochs: int) -> Tensor:
    """Questions [Q, D] as mapped after each epoch, [epochs, Q, D]."""
    steps = sorted(int(path.name.removeprefix("step_")) for path in folder.glob("step_*"))
    if len(steps) < epochs:
        raise ValueError(f"{epochs} epochs left {len(steps)} checkpoints.")
    adapted = []
    for step in steps[:epochs]:
        file = folder / f"step_{step}" / "pytorch_model.bin"
        weight = torch.load(file, map_location="cpu", weights_only=True)["linear.weight"]
        adapted.append(questions @ weight.T)
    return torch.stack(adapted)


if __name__ == "__main__":
    main()
