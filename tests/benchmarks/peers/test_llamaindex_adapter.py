from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

DIM, TRAIN, DOCUMENTS = 4, 23, 9
STEPS = 3  # an epoch of 23 pairs by tens


@dataclass
class Dataset:
    """What the engine's dataset holds."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, list[str]]


class Embedding:
    """As much of LlamaIndex's base class as is used."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def get_text_embedding(self, text: str) -> Any:
        return self._get_text_embedding(text)  # type: ignore[attr-defined]

    def get_query_embedding(self, query: str) -> Any:
        return self._get_query_embedding(query)  # type: ignore[attr-defined]


class Engine:
    """Keeps its arguments and the pairs it would see; after step n its weights are n times the identity."""

    made: ClassVar[list[Engine]] = []

    def __init__(self, dataset: Dataset, embed_model: Embedding, **settings: Any) -> None:
        self.settings = settings
        self.pairs = [
            (
                embed_model.get_query_embedding(query),
                embed_model.get_text_embedding(dataset.corpus[dataset.relevant_docs[name][0]]),
            )
            for name, query in dataset.queries.items()
        ]
        self.made.append(self)

    def finetune(self) -> None:
        for step in range(1, STEPS * self.settings["epochs"] + 1):
            if step % self.settings["checkpoint_save_steps"] == 0:
                folder = Path(self.settings["model_checkpoint_path"]) / f"step_{step}"
                folder.mkdir(parents=True)
                torch.save({"linear.weight": step * torch.eye(DIM)}, folder / "pytorch_model.bin")


@pytest.fixture
def adapter(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, over stand-ins for what it imports."""
    parts: dict[str, dict[str, Any]] = {
        "core.base.embeddings.base": {"BaseEmbedding": Embedding},
        "core.bridge.pydantic": {"PrivateAttr": lambda: None},
        "finetuning": {"EmbeddingAdapterFinetuneEngine": Engine, "EmbeddingQAFinetuneDataset": Dataset},
    }
    for name, content in parts.items():
        module = ModuleType(f"llama_index.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Engine, "made", [])
    return script("llamaindex_adapter")


@pytest.fixture
def exchange(tmp_path: Path) -> Path:
    """A request of two runs."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"documents": DOCUMENTS, "train": TRAIN, "dev": 5, "test": 7}
    save_file(
        {name: torch.randn(size, DIM, generator=generator) for name, size in sizes.items()},
        tmp_path / "vectors.safetensors",
    )
    runs = [
        {"epochs": 2, "learning_rate": None, "shuffle_seed": None},
        {"epochs": 4, "learning_rate": 0.5, "shuffle_seed": 3},
    ]
    relevant = [[row % DOCUMENTS, (row + 1) % DOCUMENTS] for row in range(TRAIN)]
    (tmp_path / "request.json").write_text(json.dumps({"relevant": relevant, "runs": runs}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def answered(adapter: ModuleType, exchange: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["llamaindex_adapter.py", str(exchange)])
    adapter.main()
    return exchange


def test_every_epoch_is_answered(answered: Path) -> None:
    vectors = load_file(answered / "vectors.safetensors")
    for number, epochs in enumerate([2, 4]):
        found = load_file(answered / f"{number}.safetensors")
        for split in ("dev", "test"):
            expected = torch.stack([STEPS * (epoch + 1) * vectors[split] for epoch in range(epochs)])
            torch.testing.assert_close(found[split], expected)
        seconds = json.loads((answered / f"{number}.json").read_text(encoding="utf-8"))
        assert set(seconds) == {"cpu_seconds", "wall_seconds"}


def test_the_engine_is_asked_as_its_user_would(answered: Path) -> None:
    _, default, tuned = Engine.made  # the first one warms up
    assert "optimizer_params" not in default.settings
    assert tuned.settings["optimizer_params"] == {"lr": 0.5}
    assert default.settings["batch_size"] == 10
    assert (default.settings["dim"], default.settings["device"]) == (DIM, "cpu")


def test_the_warm_up_is_small(answered: Path) -> None:
    assert len(Engine.made[0].pairs) == 10
    assert Engine.made[0].settings["epochs"] == 1


def test_pairs_are_a_question_and_its_first_document(answered: Path) -> None:
    vectors = load_file(answered / "vectors.safetensors")
    expected = [
        (vectors["train"][row].tolist(), vectors["documents"][row % DOCUMENTS].tolist()) for row in range(TRAIN)
    ]
    _, in_order, shuffled = Engine.made
    assert in_order.pairs == expected
    assert shuffled.pairs != expected
    assert sorted(shuffled.pairs) == sorted(expected)


def test_missing_checkpoints_are_found(adapter: ModuleType, answered: Path) -> None:
    with pytest.raises(ValueError, match="5 epochs left 2 checkpoints"):
        adapter.adapt(torch.zeros(1, DIM), answered / "trained_0", 5)


def test_steps_of_an_epoch(adapter: ModuleType) -> None:
    assert [adapter.steps_per_epoch(Dataset(dict.fromkeys(map(str, range(n)), ""), {}, {})) for n in (1, 10, 11)] == [
        1,
        1,
        2,
    ]
