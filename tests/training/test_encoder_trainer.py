from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.errors import InputError
from jasper_rag.text.pair_files import TrainingExample, read_examples, write_examples
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_run import prepare_encoder_run
from jasper_rag.training.encoder_trainer import EncoderTrainer, epoch_randomness

Files = tuple[str, str]


def run_of(
    files: Files, base: Path | None, folder: Path, resume: Path | None = None, **settings: object
) -> EncoderTrainer:
    given: dict[str, object] = {"train_data": files[0], "val_data": files[1], "output_dir": str(folder)}
    given |= {"base_model": None if base is None else str(base), "device": "cpu", "output_dim": 24, "epochs": 3}
    return prepare_encoder_run(EncoderTrainingConfig.model_validate(given | settings), resume=resume)


FROZEN: dict[str, Any] = {"freeze_base": True, "learning_rate": 3e-3, "batch_size": 40, "warmup_steps": 2}
LIVE: dict[str, Any] = {"output_dim": 16, "learning_rate": 1e-3, "gradient_accumulation_steps": 2, "batch_size": 10}


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def same(one: object, other: object) -> bool:
    """Equal to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


@pytest.mark.slow
def test_the_head_learns_what_the_base_does_not_know(
    pair_files: Files, word_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trainer = run_of(pair_files, word_model, tmp_path, epochs=12, save_interval=5, **FROZEN)
    numbers = torch.random.get_rng_state()
    state = trainer.fit()
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert state.base_ndcg is not None
    assert state.best_ndcg is not None
    assert state.best_ndcg > state.base_ndcg + 0.1
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "best_model.pt",
        "checkpoint_epoch_10.pt",
        "checkpoint_epoch_12.pt",
        "checkpoint_epoch_5.pt",
        "final_model.pt",
    ]
    assert json.loads((tmp_path / "train_config.json").read_text())["projection_learning_rate"] == 3e-3
    best = content(tmp_path / "best_model.pt")
    assert best["epoch"] == state.best_epoch
    assert not any(name.startswith("base.") for name in best["model_state_dict"])
    model = GaussianEmbeddingGemma.from_pretrained(tmp_path / "best_model.pt")
    assert model.encode(["car or road"]).shape == (1, 24)
    said = [record.getMessage() for record in caplog.records]
    for line in ("Input files validated", "Using device: cpu", "Loaded 120 training examples", "Epoch 1/12"):
        assert line in said
    for start in ("Saved config to ", "Total params: ", "Trainable: ", "Training complete! Final model saved to "):
        assert any(line.startswith(start) for line in said), start
    for start in ("Contrastive Loss: ", "Isotropy Loss: ", "Pos Distance (mean): ", "Embedding Std: ", "nDCG@10: "):
        assert any(line.startswith(f"  {start}") for line in said), start
    assert f"nDCG@10 {state.best_ndcg:.4f}; base model {state.base_ndcg:.4f}" in trainer.verdict()


@pytest.mark.slow
def test_where_training_only_harms_the_identity_is_kept(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    train = read_examples(pair_files[0])
    nonsense = [
        TrainingExample(one.query, other.positive) for one, other in zip(train, (*train[7:], *train[:7]), strict=True)
    ]
    write_examples(tmp_path / "nonsense.json", nonsense)
    # The base finds every one of these at once; whatever is learnt of nonsense can only lose some.
    write_examples(tmp_path / "easy.json", [TrainingExample(f"{one.positive}?", one.positive) for one in train])
    files = (str(tmp_path / "nonsense.json"), str(tmp_path / "easy.json"))
    trainer = run_of(files, word_model, tmp_path / "run", epochs=2, **{**FROZEN, "learning_rate": 0.1})
    state = trainer.fit()
    assert state.best_epoch == 0
    assert state.best_ndcg == pytest.approx(state.base_ndcg) == 1.0
    assert "holds the untrained head, the identity: it ranks as the base model does" in trainer.verdict()
    model = GaussianEmbeddingGemma.from_pretrained(tmp_path / "run" / "best_model.pt")
    features = model.encode_base(["car", "road and ship"])
    torch.testing.assert_close(model.project(features), features * 24**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frozen", "live"])
def test_a_resumed_run_ends_as_the_unbroken_one(
    kind: str, pair_files: Files, word_model: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    base, settings = (word_model, FROZEN) if kind == "frozen" else (tiny_bert, LIVE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_of(pair_files, base, whole, **settings).fit()
    shutil.copytree(whole, broken)
    for name in ("checkpoint_epoch_2.pt", "checkpoint_epoch_3.pt", "final_model.pt"):
        (broken / name).unlink()
    trainer = run_of(pair_files, base, broken, broken / "checkpoint_epoch_1.pt", **settings)
    # As the best model was after one epoch: it is found again.
    trainer.fit()
    for name in ("checkpoint_epoch_3.pt", "final_model.pt", "best_model.pt"):
        one, other = content(whole / name), content(broken / name)
        for found in (one, other):
            found["train_config"].pop("output_dir")
        assert same(one, other), name


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_do(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    run_of(pair_files, word_model, tmp_path, epochs=1, **FROZEN).fit()
    last = tmp_path / "checkpoint_epoch_1.pt"
    before = last.read_bytes()
    (tmp_path / "final_model.pt").unlink()
    (tmp_path / "best_model.pt").unlink()
    trainer = run_of(pair_files, word_model, tmp_path, last, epochs=1, **FROZEN)
    assert trainer.finished
    trainer.fit()
    assert last.read_bytes() == before
    assert (tmp_path / "final_model.pt").is_file()
    assert content(tmp_path / "best_model.pt")["epoch"] in (0, 1)
    # More epochs go on from there.
    assert run_of(pair_files, word_model, tmp_path, last, epochs=2, **FROZEN).fit().epoch == 2


@pytest.mark.slow
def test_a_best_model_of_later_epochs_is_no_candidate(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    run_of(pair_files, word_model, tmp_path, epochs=3, **FROZEN).fit()
    first = tmp_path / "checkpoint_epoch_1.pt"
    # Back to the first epoch, with a rate at which nothing gets better: what stood there was not of this run.
    settings = {**FROZEN, "learning_rate": 1e-12}
    state = run_of(pair_files, word_model, tmp_path, first, epochs=2, **settings).fit()
    assert state.best_epoch is not None
    assert content(tmp_path / "best_model.pt")["epoch"] == state.best_epoch <= 2


@pytest.mark.slow
def test_a_run_goes_on_only_with_the_same_model_and_data(
    pair_files: Files, word_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_of(pair_files, word_model, tmp_path, epochs=1, **FROZEN).fit()
    last = tmp_path / "checkpoint_epoch_1.pt"
    with pytest.raises(InputError, match="was trained with 24, not 16"):
        run_of(pair_files, word_model, tmp_path, last, **{**FROZEN, "output_dim": 16})
    with pytest.raises(InputError, match="was trained on other pairs"):
        run_of((pair_files[1], pair_files[1]), word_model, tmp_path, last, **FROZEN)
    with pytest.raises(InputError, match="lacks run_state"):
        run_of(pair_files, word_model, tmp_path, tmp_path / "best_model.pt", **FROZEN)
    torch.save({**content(last), "optimizer_state_dict": {"state": {}, "param_groups": []}}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="does not fit this run"):
        run_of(pair_files, word_model, tmp_path, tmp_path / "odd.pt", **FROZEN)
    run_of(pair_files, word_model, tmp_path, last, **{**FROZEN, "learning_rate": 1e-4})
    assert "learning_rate 0.003 -> 0.0001" in caplog.text


@pytest.mark.slow
def test_training_goes_on_from_a_model(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    first = run_of(pair_files, word_model, tmp_path / "one", epochs=6, **FROZEN).fit()
    best = str(tmp_path / "one" / "best_model.pt")
    settings = {**FROZEN, "learning_rate": 1e-5, "output_dim": None, "model_path": best, "use_predictor": True}
    trainer = run_of(pair_files, None, tmp_path / "two", epochs=1, **settings)
    second = trainer.fit()
    assert trainer.model.predictor is not None
    assert second.base_ndcg == pytest.approx(first.base_ndcg)
    assert second.best_ndcg is not None
    assert first.best_ndcg is not None
    assert second.best_ndcg >= first.best_ndcg - 1e-9
    for wrong in ({"max_seq_length": 7}, {"normalize_embeddings": False}):
        with pytest.raises(InputError, match="Leave it out"):
            run_of(pair_files, None, tmp_path / "three", **{**settings, **wrong})


@pytest.mark.slow
def test_a_base_that_was_trained_is_compared_with_the_original(
    pair_files: Files, tiny_bert: Path, tmp_path: Path
) -> None:
    first = run_of(pair_files, tiny_bert, tmp_path / "one", epochs=1, **{**LIVE, "learning_rate": 1e-2}).fit()
    settings = {**FROZEN, "output_dim": None, "model_path": str(tmp_path / "one" / "final_model.pt")}
    config = {"train_data": pair_files[0], "val_data": pair_files[1], "output_dir": str(tmp_path / "two"), "epochs": 1}
    config |= {"device": "cpu", **settings}
    for store in (None, EmbeddingStore(tmp_path / "store")):
        trainer = prepare_encoder_run(EncoderTrainingConfig.model_validate(config), store=store)
        assert trainer.state.base_ndcg == pytest.approx(first.base_ndcg)
    assert "as it was" in trainer.verdict() or trainer.fit().best_epoch is not None
    # A base that once moved is saved, though it is frozen now.
    assert any(name.startswith("base.") for name in content(tmp_path / "two" / "best_model.pt")["model_state_dict"])


@pytest.mark.slow
def test_a_narrow_head_and_a_margin_and_gradient_checkpointing(
    pair_files: Files, tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {**LIVE, "output_dim": 6, "epochs": 1, "margin": 1.0, "gradient_checkpointing": True}
    trainer = run_of(pair_files, tiny_bert, tmp_path, **settings, mixed_precision=True, warmup_steps=500)
    assert "6 of 16 dimensions keep" in caplog.text
    assert "cut to 0" in caplog.text
    assert "a cpu computes in float32" in caplog.text
    assert trainer.step.objective.kind == "margin"
    assert trainer.fit().best_ndcg is not None


@pytest.mark.slow
def test_without_val_pairs_the_last_epoch_is_taken(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    trainer = run_of((pair_files[0], ""), word_model, tmp_path, **FROZEN, val_data=None)
    trainer.fit()
    assert content(tmp_path / "best_model.pt")["epoch"] == 3
    assert "Not compared with the base model" in trainer.verdict()


@pytest.mark.slow
def test_a_run_that_diverges_stops(pair_files: Files, word_model: Path, tmp_path: Path) -> None:
    settings = {**FROZEN, "learning_rate": 1e30, "max_grad_norm": 0.0, "warmup_steps": 0}
    with pytest.raises(InputError, match="Lower --learning_rate"):
        run_of(pair_files, word_model, tmp_path, **settings).fit()


def test_random_numbers_of_an_epoch_go_by_seed_and_number() -> None:
    found = []
    for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1)):
        with epoch_randomness(seed, epoch, torch.device("cpu")):
            found.append(torch.rand(1).item())
    assert found[0] == found[1]
    assert len(set(found)) == 3
