"""The documented ways of training on a steering dataset, call for call.

Prelude of every block: `torch`, `torch.nn.functional as F`, the model and the loss of the first two blocks, `evaluate`
and `train_epoch`, which the documentation leaves to the reader, a dataset in `./my_dataset`, and the loaders. A GPU is
used where there is one. Epochs are `EPOCHS` in place of 100.

With the documents in the folder that `JASPER_DOCUMENTS` names, their own blocks run as they stand.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from RAG_supporters.dataset import create_loader, set_epoch, validate_first_batch
from RAG_supporters.pytorch_datasets import JASPERSteeringDataset
from RAG_supporters.pytorch_datasets import create_loader as create_loader_of_datasets

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
EPOCHS = 3
DATASET_DIR = "./my_dataset"
BATCH = ("question_emb", "steering", "target_source_emb", "negative_embs")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning"),
]


class SimpleJASPERPredictor(nn.Module):
    """Question and steering, beside each other, through three layers."""

    def __init__(self, embedding_dim: int, hidden_dim: int = 512) -> None:
        super().__init__()
        self.predictor = nn.Sequential(
            *(nn.Linear(embedding_dim * 2, hidden_dim), nn.ReLU()),
            *(nn.Linear(hidden_dim, hidden_dim), nn.ReLU()),
            nn.Linear(hidden_dim, embedding_dim),
        )

    def forward(self, question_emb: Tensor, steering: Tensor) -> Tensor:
        predicted: Tensor = self.predictor(torch.cat([question_emb, steering], dim=-1))
        return predicted


def contrastive_loss(predicted: Tensor, target: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    predicted, target, negatives = (F.normalize(vectors, dim=-1) for vectors in (predicted, target, negatives))
    positive = (predicted * target).sum(dim=-1) / temperature
    negative = torch.bmm(negatives, predicted.unsqueeze(-1)).squeeze(-1) / temperature
    logits = torch.cat([positive.unsqueeze(1), negative], dim=1)
    labels = torch.zeros(len(predicted), dtype=torch.long, device=predicted.device)
    return F.cross_entropy(logits, labels)


def batch_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    question_emb, steering, target_emb, negatives = (batch[key].to(DEVICE) for key in BATCH)
    return contrastive_loss(model(question_emb, steering), target_emb, negatives)


def evaluate(model: nn.Module, loader: Iterable[Any]) -> float:
    with torch.no_grad():
        losses = [batch_loss(model, batch).item() for batch in loader]
    return sum(losses) / len(losses)


def train_epoch(model: nn.Module, loader: Iterable[Any], optimizer: torch.optim.Optimizer) -> float:
    model.train()
    losses = []
    for batch in loader:
        loss = batch_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@pytest.fixture(autouse=True)
def my_dataset(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`./my_dataset`, and the same global random numbers for every block."""
    made = make("ours", name="my_dataset")
    monkeypatch.chdir(made.root.parent)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield made


def test_the_model_takes_a_question_and_its_steering() -> None:
    batch = next(iter(create_loader(DATASET_DIR, "train", 8)))
    model = SimpleJASPERPredictor(6)
    assert model(batch["question_emb"], batch["steering"]).shape == batch["target_source_emb"].shape


def test_the_contrastive_loss_is_the_cross_entropy_of_the_positive() -> None:
    batch = next(iter(create_loader(DATASET_DIR, "train", 8)))
    predicted = torch.randn(8, 6)
    loss = contrastive_loss(predicted, batch["target_source_emb"], batch["negative_embs"])
    expected = []
    for place in range(8):
        sources = [batch["target_source_emb"][place], *batch["negative_embs"][place]]
        cosines = torch.stack([F.cosine_similarity(predicted[place], source, dim=0) for source in sources])
        expected.append(-torch.log_softmax(cosines.double() / 0.07, dim=0)[0])
    torch.testing.assert_close(loss.double(), torch.stack(expected).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_standard_training() -> None:
    train_loader = create_loader(dataset_dir=DATASET_DIR, split="train", batch_size=128, num_workers=4)
    val_loader = create_loader(dataset_dir=DATASET_DIR, split="val", batch_size=128, num_workers=4)
    embedding_dim = train_loader.dataset_obj.embedding_dim
    model = SimpleJASPERPredictor(embedding_dim).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    for epoch in range(EPOCHS):
        set_epoch(train_loader, epoch)
        losses.append(train_epoch(model, train_loader, optimizer))
        model.eval()
        assert 0 < evaluate(model, val_loader) < 100
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_preloading_to_a_device() -> None:
    device = torch.device(DEVICE)
    train_dataset = JASPERSteeringDataset(dataset_dir=DATASET_DIR, split="train", epoch=0, device=device)
    val_dataset = JASPERSteeringDataset(dataset_dir=DATASET_DIR, split="val", epoch=0, device=device)
    told = f"{train_dataset.memory_usage_mb:.2f} MB on {train_dataset.device}"
    assert re.fullmatch(r"\d+\.\d\d MB on (cpu|cuda(:0)?)", told)
    train_loader = DataLoader(train_dataset, batch_size=128, shuffle=True)
    val_loader: DataLoader[Any] = DataLoader(val_dataset, batch_size=128, shuffle=False)
    model = SimpleJASPERPredictor(train_dataset.embedding_dim).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for epoch in range(EPOCHS):
        train_dataset.set_epoch(epoch)
        model.train()
        batch: Any
        for batch in train_loader:
            assert {tensor.device.type for tensor in batch.values()} == {device.type}
            predicted = model(batch["question_emb"], batch["steering"])
            loss = contrastive_loss(predicted, batch["target_source_emb"], batch["negative_embs"])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert sum(len(batch["relevance"]) for batch in val_loader) == 4


def test_the_context_manager_logs_statistics_and_lets_go(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "jasper_rag"),
        JASPERSteeringDataset(DATASET_DIR, split="train", device=DEVICE) as train_dataset,
    ):
        train_loader = DataLoader(train_dataset, batch_size=128, shuffle=True)
        for epoch in range(EPOCHS):
            train_dataset.set_epoch(epoch)
            assert sum(1 for _ in train_loader) == 1
        assert not caplog.messages
    (message,) = caplog.messages
    told = r"train split of my_dataset: 32 pairs, \d+\.\d\d MB on (cpu|cuda), epoch 2 \(zero 0\.\d+, centroid 0\.\d+, "
    assert re.match(told, message)
    with pytest.raises(ValueError, match="closed"):
        train_dataset[0]


def test_all_splits_at_once() -> None:
    splits = JASPERSteeringDataset.create_combined_splits(dataset_dir=DATASET_DIR, epoch=0, device=torch.device(DEVICE))
    train_loader = DataLoader(splits["train"], batch_size=128, shuffle=True)
    val_loader = DataLoader(splits["val"], batch_size=128, shuffle=False)
    test_loader = DataLoader(splits["test"], batch_size=128, shuffle=False)
    sizes = [sum(len(batch["relevance"]) for batch in loader) for loader in (train_loader, val_loader, test_loader)]
    assert sizes == [len(splits["train"]), len(splits["val"]), len(splits["test"])] == [32, 4, 4]


def test_validation_with_forced_steering() -> None:
    val_loader = create_loader(DATASET_DIR, "val", 128)
    model = SimpleJASPERPredictor(6).to(DEVICE)
    stochastic = evaluate(model, val_loader)
    val_loader.dataset_obj.force_steering("zero")
    zero_loss = evaluate(model, val_loader)
    val_loader.dataset_obj.force_steering("centroid")
    centroid_loss = evaluate(model, val_loader)
    assert zero_loss != centroid_loss
    val_loader.dataset_obj.force_steering(None)
    assert evaluate(model, val_loader) == stochastic


@pytest.mark.slow
def test_negatives_are_exchanged_while_training_runs(my_dataset: Any) -> None:
    train_loader = create_loader(DATASET_DIR, "train", 128)
    served = []
    for epoch in range(30):
        if epoch % 10 == 0 and epoch > 0:
            fresh = (my_dataset.tensors["hard_negatives"] + epoch // 10) % 40
            torch.save(fresh, my_dataset.root / "hard_negatives.pt")
            assert train_loader.dataset_obj.reload_negatives()
        served.append(next(iter(train_loader))["negative_embs"])
    changes = [epoch for epoch in range(1, 30) if not torch.equal(served[epoch - 1], served[epoch])]
    assert changes == [10, 20]


def test_the_distribution_of_steering_variants_can_be_counted(my_dataset: Any) -> None:
    train_loader = create_loader(DATASET_DIR, "train", 8)
    variants: list[int] = []
    for batch in train_loader:
        variants.extend(batch["steering_variant"].tolist())
    dist = Counter(variants)
    assert sum(dist[number] / len(variants) for number in range(4)) == pytest.approx(1)
    # Epoch 0 of the curriculum serves zero steering to 70 % of the pairs.
    assert dist[0] == max(dist.values())


@pytest.mark.slow
def test_the_complete_example() -> None:
    train_loader = create_loader(DATASET_DIR, "train", 128, num_workers=4)
    val_loader = create_loader_of_datasets(DATASET_DIR, "val", 128, num_workers=4)
    assert validate_first_batch(train_loader)
    embedding_dim = train_loader.dataset_obj.embedding_dim
    model = SimpleJASPERPredictor(embedding_dim).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for epoch in range(EPOCHS):
        set_epoch(train_loader, epoch)
        train_loss = train_epoch(model, train_loader, optimizer)
        val_loss = evaluate(model, val_loader)
        line = f"Epoch {epoch}: Train={train_loss:.4f}, Val={val_loss:.4f}"
        assert re.fullmatch(rf"Epoch {epoch}: Train=\d+\.\d{{4}}, Val=\d+\.\d{{4}}", line)
