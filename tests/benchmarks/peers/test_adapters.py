from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.text.records import RetrievalSet

pytestmark = pytest.mark.slow


@pytest.fixture
def adapters(script: Callable[[str], ModuleType], repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a short grid."""
    monkeypatch.syspath_prepend(repository / "benchmarks/peers")
    module = script("adapters")
    monkeypatch.setattr(module.adapted, "__defaults__", (module.GRID[:2],))
    monkeypatch.setattr(sys.modules["search_adaptor"].train_adaptor, "__defaults__", (50,))
    return module


@pytest.fixture
def embedded(fitted: Jasper) -> EmbeddedSet:
    assert fitted.record is not None
    return fitted.record.embedded


class Words(SentenceEncoder):
    """A bag of words in the place of a model that could be trained."""

    def __init__(self, words: Encoder) -> None:
        self.words = words
        self.model = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")

    def prompt(self, role: Role) -> str:
        return "cat " if role == "query" else ""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        return self.words.encode(texts, role)


@pytest.fixture
def words(adapters: ModuleType, word_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Words:
    """`Words` in the place of the config's encoder."""
    encoder = Words(word_encoder)
    monkeypatch.setattr(adapters, "usable_encoder", lambda given, settings, offline: encoder)
    return encoder


def test_ours_is_what_a_fit_ships(
    adapters: ModuleType, fitted: Jasper, embedded: EmbeddedSet, quick_config: JasperConfig
) -> None:
    assert fitted.record is not None
    found = adapters.ours(embedded, quick_config)
    for key, system in found.items():
        expected = fitted.record.comparison.runs[key].values
        assert set(system.values) == set(expected)
        for metric, values in system.values.items():
            np.testing.assert_allclose(values, expected[metric], atol=1e-9)
        assert system.cpu_seconds > 0
        assert system.wall_seconds > 0
    plain = adapters.score(embedded, embedded.splits["test"].vectors, embedded.splits["test"].judgements)
    np.testing.assert_array_equal(plain["ndcg@10"], fitted.record.comparison.runs["plain"].values["ndcg@10"])


def test_adapted_documents_are_searched(
    adapters: ModuleType, embedded: EmbeddedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scrambled(torch.nn.Module):
        """Documents and questions reversed alike: every cosine, and so every figure, stays."""

        def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
            return 3 * embeddings.flip(1)

    run = adapters.AdaptorRun(0, 0, 1.0)
    trained = SimpleNamespace(run=run, adapter=Scrambled(), curve=(0.2,), cpu_seconds=2.0, wall_seconds=3.0)
    asked: list[float] = []

    def tune(pairs: object, dev_ndcg: Callable[[torch.nn.Module], float], seed: int, runs: object) -> Any:
        asked.append(dev_ndcg(trained.adapter))
        return trained, [trained, trained]

    monkeypatch.setattr(adapters, "tune", tune)
    system, grid = adapters.adapted(embedded, 0)
    for split, found in {"dev": asked[0], "test": adapters.ndcg(system.values)}.items():
        queries = embedded.splits[split]
        assert found == pytest.approx(adapters.ndcg(adapters.score(embedded, queries.vectors, queries.judgements)))
    assert (system.cpu_seconds, system.wall_seconds) == (4.0, 6.0)
    assert grid[0]["dev_ndcg@10"] == (0.2,)


def test_passages_are_refused(adapters: ModuleType, embedded: EmbeddedSet) -> None:
    count = len(embedded.documents)
    passages = Passages(np.arange(count), np.zeros((count, 2), dtype=np.int64))
    cut = replace(embedded, vectors=DocumentVectors(embedded.vectors.vectors, passages))
    with pytest.raises(ValueError, match="passages"):
        adapters.adapted(cut, 0)


def test_every_side_is_measured(
    adapters: ModuleType,
    embedded: EmbeddedSet,
    quick_config: JasperConfig,
    words: Words,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def fine_tune(model: object, pairs: Sequence[tuple[str, str]], seconds: float, seed: int) -> SimpleNamespace:
        assert model is words.model
        asked.append(seconds)
        return SimpleNamespace(steps=10 * len(asked), cpu_seconds=2.0, wall_seconds=4.0)

    monkeypatch.setattr(adapters, "fine_tune", fine_tune)
    found = adapters.measure(embedded, quick_config, finetuning=True)
    systems = found["systems"]
    assert list(systems) == list(adapters.SYSTEMS)
    assert found["documents"] == len(embedded.documents)
    assert sum(run["chosen"] for run in found["grid"]) == 1
    assert found["finetuning_steps"] == {"finetuned": 10, "finetuned_long": 20}
    assert asked == [times * systems["jasper"]["train_wall_seconds"] for times in (1, 10)]
    # The same encoder gives the same vectors.
    assert systems["finetuned"]["ndcg@10"] == systems["plain"]["ndcg@10"]
    assert (systems["finetuned"]["train_cpu_seconds"], systems["finetuned"]["train_wall_seconds"]) == (2.0, 4.0)
    assert systems["jasper"]["p_value"] is None
    assert systems["plain"]["p_value"] < 0.05
    assert systems["plain"]["ndcg_per_second"] is None
    jasper, seconds = systems["jasper"], systems["jasper"]["train_cpu_seconds"]
    assert jasper["ndcg_per_second"] == pytest.approx(jasper["ndcg@10"] / seconds)
    assert jasper["gain_per_second"] == pytest.approx((jasper["ndcg@10"] - systems["plain"]["ndcg@10"]) / seconds)

    lines = adapters.table("synonyms", [found, found]).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert [*rows][1:] == [adapters.SYSTEMS[key] for key in systems]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert f"| {jasper['ndcg@10']:.3f} |" in rows["JASPER (ships)"]
    assert "2 seeds" in lines[1]
    assert "fine-tuning:" in lines[-1]


def test_texts_are_those_the_encoder_reads(adapters: ModuleType, embedded: EmbeddedSet, words: Words) -> None:
    pairs = adapters.text_pairs(embedded, words)
    train = embedded.splits["train"]
    assert len(pairs) == int((train.judgements.grades > 0).sum())
    document = embedded.documents[int(train.judgements.positives(0)[0])]
    assert pairs[0] == (f"cat {train.texts[0]}", document.content)


def test_only_a_model_can_be_fine_tuned(
    adapters: ModuleType, embedded: EmbeddedSet, quick_config: JasperConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "usable_encoder", lambda given, settings, offline: object())
    with pytest.raises(ValueError, match="only a sentence-transformers model"):
        adapters.fine_tuned(embedded, quick_config, 1.0)


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ([], 2000, [True]),
        ([], 10, [False]),
        (["--finetune-sets"], 2000, [False]),
        (["--finetune-sets", "a"], 10, [True]),
    ],
)
def test_figures_are_written(
    adapters: ModuleType,
    embedded: EmbeddedSet,
    quick_config: JasperConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    most: int,
    expected: list[bool],
) -> None:
    asked: list[bool] = []

    def measure(embedded: EmbeddedSet, settings: JasperConfig, *, finetuning: bool) -> dict[str, int]:
        asked.append(finetuning)
        return {"seed": settings.seed}

    monkeypatch.setattr(adapters, "FEW_DOCUMENTS", most)
    monkeypatch.setattr(adapters, "embedded_set", lambda name, root, seed: (quick_config, embedded))
    monkeypatch.setattr(adapters, "measure", measure)
    monkeypatch.setattr(adapters, "table", lambda name, results: f"table of {name}: {len(results)}")
    output = tmp_path / "adapters.json"
    adapters.main(["--data-root", str(tmp_path), "--sets", "a", "--output", str(output), *given])
    assert asked == expected
    assert json.loads(output.read_text(encoding="utf-8")) == {"a": [{"seed": 0}]}
    assert capsys.readouterr().out == "table of a: 1\n"


def test_vectors_and_splits_are_those_of_a_fit(
    adapters: ModuleType,
    synonym_set: RetrievalSet,
    embedded: EmbeddedSet,
    word_encoder: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapters, "read_python_source", lambda: synonym_set)
    monkeypatch.setattr(adapters, "usable_encoder", lambda given, settings, offline: word_encoder)
    monkeypatch.setenv("JASPER_CACHE", str(tmp_path))
    settings, found = adapters.embedded_set("stdlib", tmp_path, 0)
    assert (settings.seed, settings.encoder.max_seq_length) == (0, 128)
    assert settings.pseudo_questions.use == "never"
    for split in ("train", "dev", "test"):
        assert found.splits[split].ids == embedded.splits[split].ids
        np.testing.assert_array_equal(found.splits[split].vectors, embedded.splits[split].vectors)
    np.testing.assert_array_equal(found.vectors.vectors, embedded.vectors.vectors)
