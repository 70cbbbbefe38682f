"""Small dataset directories without faults, in every format, beside what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

PAIRS, QUESTIONS, SOURCES, KEYWORDS, CLUSTERS, DIMENSION, NEGATIVES = 40, 20, 40, 7, 4, 6, 3


@dataclass
class Made:
    """A directory and what was written into it."""

    root: Path
    tensors: dict[str, Tensor]
    keywords: list[list[int]]
    weights: list[list[float]]
    config: dict[str, Any] = field(default_factory=dict)

    def steering(self, pair: int, variant: int) -> Tensor:
        """Of one pair, in the plainest way."""
        tensors = self.tensors
        question = tensors["question_embs"][tensors["pair_index"][pair, 0]].double()
        centroid = tensors["centroid_embs"][tensors["pair_cluster_id"][pair]].double()
        direction = normalize(centroid - question, dim=0)
        if variant == 0:
            return torch.zeros(DIMENSION)
        if variant == 1:
            return direction.float()
        if variant == 3:
            return (question - centroid).float()
        rows, weights = self.keywords[pair], self.weights[pair]
        if not rows:
            return direction.float()
        parts = [weight * tensors["keyword_embs"][row].double() for row, weight in zip(rows, weights, strict=True)]
        return normalize(torch.stack(parts).sum(0), dim=0).float()

    def sample(self, pair: int, variant: int) -> dict[str, Tensor]:
        """One sample, in the plainest way."""
        tensors = self.tensors
        question, source = tensors["pair_index"][pair].tolist()
        return {
            "question_emb": tensors["question_embs"][question],
            "target_source_emb": tensors["source_embs"][source],
            "steering": self.steering(pair, variant),
            "negative_embs": torch.stack([tensors["source_embs"][row] for row in tensors["hard_negatives"][pair]]),
            "cluster_id": tensors["pair_cluster_id"][pair],
            "relevance": tensors["pair_relevance"][pair],
            "centroid_distance": tensors["centroid_distances"][pair],
            "steering_variant": torch.tensor(variant),
            "negative_tiers": tensors["negative_tiers"][pair],
        }


def plain_tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> Tensor:
        return normalize(torch.randn(rows, DIMENSION, generator=generator), dim=1)

    pairs = torch.arange(PAIRS)
    tensors = {
        "question_embs": unit(QUESTIONS),
        "source_embs": unit(SOURCES),
        "keyword_embs": unit(KEYWORDS),
        "centroid_embs": unit(CLUSTERS),
        # Questions 0-15 with sources 0-31 train, 16-17 with 32-35 validate, 18-19 with 36-39 test: nothing is shared.
        "pair_index": torch.stack([pairs // 2, pairs], dim=1),
        "pair_cluster_id": torch.randint(CLUSTERS, (PAIRS,), generator=generator),
        "pair_relevance": torch.rand(PAIRS, generator=generator),
        # The question's two sources are at most one row away, the negatives at least two.
        "hard_negatives": (pairs[:, None] + torch.tensor([2, 3, 20])) % SOURCES,
        "negative_tiers": torch.tensor([1, 3, 4]).repeat(PAIRS, 1),
        "train_idx": torch.randperm(32, generator=generator),
        "val_idx": torch.arange(32, 36),
        "test_idx": torch.arange(36, 40),
    }
    questions = tensors["question_embs"][tensors["pair_index"][:, 0]]
    centroids = tensors["centroid_embs"][tensors["pair_cluster_id"]]
    tensors["centroid_distances"] = 1 - (questions * centroids).sum(1)
    return tensors


def plain_config() -> dict[str, Any]:
    return {
        "embedding_dim": DIMENSION,
        "n_neg": NEGATIVES,
        "clustering_source": "clusters.json",
        "split_ratios": [0.8, 0.1, 0.1],
        "steering_probabilities": {"zero": 0.25, "centroid": 0.25, "keyword": 0.25, "residual": 0.25},
        "curriculum": {"mode": "linear", "start_distance": 0.3, "end_distance": 0.7, "warmup_epochs": 10},
        "n_pairs": PAIRS,
        "n_questions": QUESTIONS,
        "n_sources": SOURCES,
        "n_keywords": KEYWORDS,
        "n_clusters": CLUSTERS,
        "storage_format": "pt",
        "include_inspection_file": False,
        "random_seed": 42,
        "csv_splits": None,
    }


def write_original(made: Made) -> None:
    """As the original project leaves a directory."""
    for name, variant in (("centroid", 1), ("keyword_weighted", 2), ("residual", 3)):
        rows = [made.steering(pair, variant) for pair in range(PAIRS)]
        made.tensors[f"steering_{name}"] = torch.stack(rows)
    for name, tensor in made.tensors.items():
        torch.save(tensor, made.root / f"{name}.pt")
    torch.save(made.keywords, made.root / "pair_keyword_ids.pt")


def write_ours(made: Made) -> None:
    for name, tensor in made.tensors.items():
        save_file({name: tensor.contiguous()}, made.root / f"{name}.safetensors")
    ragged = {
        "values": torch.tensor([row for rows in made.keywords for row in rows]),
        "offsets": torch.tensor([0, *[len(rows) for rows in made.keywords]]).cumsum(0),
        "weights": torch.tensor([weight for weights in made.weights for weight in weights]),
    }
    save_file(ragged, made.root / "pair_keyword_ids.safetensors")
    made.config |= {"format_version": 1, "storage_format": "safetensors"}
    documents = [{"_id": f"d{row}", "title": "", "text": f"source {row}", "topic": ""} for row in range(SOURCES)]
    questions = [{"_id": f"q{row}", "text": f"question {row}"} for row in range(QUESTIONS)]
    (made.root / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in documents))
    (made.root / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in questions))
    (made.root / "keywords.json").write_text(json.dumps([f"keyword {row}" for row in range(KEYWORDS)]))
    (made.root / "clusters.json").write_text(json.dumps([{"name": f"cluster {row}"} for row in range(CLUSTERS)]))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made.root.iterdir())}
    files = {name: digest for name, digest in files.items() if not name.startswith(("hard_neg", "negative_"))}
    checksums = {"format_version": 1, "algorithm": "sha256", "files": files}
    (made.root / "checksums.json").write_text(json.dumps(checksums))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Write a directory: kind "ours" or "original", with tensors and settings exchanged by name."""

    def write(
        kind: str = "ours", *, name: str = "dataset", settings: dict[str, Any] | None = None, **tensors: Tensor
    ) -> Made:
        keywords = [[(pair + step) % KEYWORDS for step in range(pair % 4)] for pair in range(PAIRS)]
        weights = [[1.0 if kind == "original" else 1.0 + step for step in range(pair % 4)] for pair in range(PAIRS)]
        made = Made(tmp_path / name, plain_tensors() | tensors, keywords, weights, plain_config() | (settings or {}))
        made.root.mkdir()
        (write_ours if kind == "ours" else write_original)(made)
        (made.root / "config.json").write_text(json.dumps(made.config))
        return made

    return write


@pytest.fixture
def ours(make: Callable[..., Made]) -> Made:
    """A directory of ours, with weighted keywords."""
    return make("ours")


@pytest.fixture
def original(make: Callable[..., Made]) -> Made:
    """A directory as the original project builds it."""
    return make("original", name="original")
