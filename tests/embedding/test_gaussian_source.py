"""A trained Gaussian encoder wherever an encoder is named: fits, searches after loading, refuses a changed one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from jasper_rag.embedding.encoder import Role, as_encoder, identity_of
from jasper_rag.embedding.gaussian_checkpoint import write_gaussian_checkpoint
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.gaussian_source import gaussian_checkpoint_encoder
from jasper_rag.encoder_choice import usable_encoder
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.text.records import RetrievalSet


def write_checkpoint(path: Path, word_model: Path, seed: int = 0) -> GaussianEmbeddingGemma:
    model = GaussianEmbeddingGemma(20, str(word_model), freeze_base=True, use_predictor=True, device="cpu")
    assert model.predictor is not None
    with torch.no_grad():
        for weight in (model.projection.linear.weight, model.predictor.linear.weight):
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    write_gaussian_checkpoint(path, model.eval().state())
    return model


@pytest.fixture
def checkpoint(word_model: Path, tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "best_model.pt", word_model)
    return tmp_path / "best_model.pt"


def config_of(quick_settings: dict[str, float], **encoder: object) -> JasperConfig:
    named = {f"encoder.{key}": value for key, value in encoder.items()}
    return load_config(overrides={**quick_settings, **named, "encoder.device": "cpu"})


@pytest.mark.slow
def test_a_checkpoint_is_an_encoder(word_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    model = write_checkpoint(path, word_model)
    roles: tuple[Role, Role] = ("query", "document")
    for encoder in (as_encoder(path), as_encoder(str(path)), gaussian_checkpoint_encoder(path, device="cpu")):
        for role in roles:
            vectors = encoder.encode(["car and road", "film"], role)
            np.testing.assert_allclose(vectors, model.encoder().encode(["car and road", "film"], role), atol=1e-6)
        identity = identity_of(encoder)
        assert identity.name == str(path)
        assert identity.mismatch(model.encoder().identity()) is None


@pytest.mark.slow
def test_fit_save_and_search_again(
    checkpoint: Path, word_model: Path, synonym_set: RetrievalSet, quick_settings: dict[str, float], tmp_path: Path
) -> None:
    config = config_of(quick_settings, name=str(checkpoint))
    fitted = Jasper.fit(synonym_set, config=config)
    assert fitted.model.vectors.dimension == 20
    fitted.save(tmp_path / "model")
    question = synonym_set.queries[0].text
    loaded = Jasper.load(tmp_path / "model")
    found = {hit.document.id: hit.score for hit in loaded.search(question)}
    assert found == pytest.approx({hit.document.id: hit.score for hit in fitted.search(question)})

    # Moved: refused with a way out, which works.
    moved = checkpoint.rename(tmp_path / "elsewhere.pt")
    with pytest.raises(InputError, match="there is no checkpoint of an encoder here") as caught:
        Jasper.load(tmp_path / "model").search(question)
    assert caught.value.path == checkpoint
    assert "Jasper.load(RUN, encoder='PATH.pt')" in caught.value.remedy
    again = Jasper.load(tmp_path / "model", encoder=str(moved))
    assert [hit.document.id for hit in again.search(question)] == list(found)

    # Changed: refused, by the hashes of the weights.
    write_checkpoint(checkpoint, word_model, seed=1)
    with pytest.raises(InputError, match=r"two versions of .*best_model\.pt.* differ in weights") as caught:
        Jasper.load(tmp_path / "model").search("car?")
    assert str(checkpoint) in caught.value.remedy
    assert "run `jasper fit` again" in caught.value.remedy


@pytest.mark.slow
def test_a_relative_path_is_found_from_another_folder(
    checkpoint: Path,
    synonym_set: RetrievalSet,
    quick_settings: dict[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Jasper.fit(synonym_set, config=config_of(quick_settings, name="best_model.pt")).save("model")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert Jasper.load(tmp_path / "model").search("car?")
    # The folder as a whole may move: then the settings' path counts.
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    monkeypatch.chdir(moved)
    assert Jasper.load("model").search("car?")


@pytest.mark.slow
def test_the_saved_folder_of_stock_modules_is_the_same_encoder(
    checkpoint: Path, word_model: Path, synonym_set: RetrievalSet, quick_settings: dict[str, float], tmp_path: Path
) -> None:
    folder = tmp_path / "stock"
    GaussianEmbeddingGemma.from_pretrained(checkpoint, device="cpu").save_sentence_transformer(folder)
    config = config_of(quick_settings, name=str(folder))
    stock, own = usable_encoder(None, config, offline=True), as_encoder(checkpoint)
    roles: tuple[Role, Role] = ("query", "document")
    for role in roles:
        texts = [query.text for query in synonym_set.queries[:9]]
        np.testing.assert_allclose(stock.encode(texts, role), own.encode(texts, role), atol=1e-5)
    fitted = Jasper.fit(synonym_set, config=config)
    fitted.save(tmp_path / "model")
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert Jasper.load(tmp_path / "model", encoder=str(copied)).search("car?")[0].document.id
    write_checkpoint(checkpoint, word_model, seed=1)
    GaussianEmbeddingGemma.from_pretrained(checkpoint, device="cpu").save_sentence_transformer(folder)
    with pytest.raises(InputError, match=r"differ in weights"):
        Jasper.load(tmp_path / "model").search("car?")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_seq_length", 64),
        ("query_prompt", "q: "),
        ("document_prompt", "d: "),
        ("revision", "main"),
        ("dtype", "bfloat16"),
    ],
)
def test_what_the_checkpoint_decides_cannot_be_given(checkpoint: Path, field: str, value: object) -> None:
    config = load_config(overrides={"encoder.name": str(checkpoint), f"encoder.{field}": value})
    with pytest.raises(InputError, match="is given for the checkpoint") as caught:
        usable_encoder(None, config, offline=True)
    assert caught.value.field == field


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        as_encoder(tmp_path / "x.pt")
