from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, as_encoder, identity_of
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.embedding.vectors import Role
from jasper_rag.errors import InputError

TEXTS = ["the heart pump blood", "list the files", "a folder", "a query : the heart", "files files list a"]


@pytest.fixture(scope="session")
def deep_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with 6 layers."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("deep") / "model"
    shutil.copytree(tiny_model, folder)
    config = BertConfig.from_pretrained(tiny_model, num_hidden_layers=6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


def gaussian(folder: Path, output_dim: int = 32, **settings: object) -> GaussianEmbeddingGemma:
    return GaussianEmbeddingGemma(output_dim, str(folder), device="cpu", **settings)  # type: ignore[arg-type]


def disturbed(model: GaussianEmbeddingGemma) -> GaussianEmbeddingGemma:
    """As if trained: every weight of head and predictor moved."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("base."):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("output_dim", [32, 40])
def test_untrained_it_ranks_exactly_as_the_base(tiny_model: Path, output_dim: int) -> None:
    base = SentenceEncoder(str(tiny_model), device="cpu").encode(TEXTS, "document")
    embeddings = gaussian(tiny_model, output_dim, use_predictor=True).encode(TEXTS)
    assert embeddings.shape == (5, output_dim)
    assert embeddings.norm(dim=1).tolist() == pytest.approx([output_dim**0.5] * 5, rel=1e-5)
    expected = torch.from_numpy(base @ base.T).argsort(dim=1, descending=True)
    assert torch.equal(torch.cdist(embeddings, embeddings).argsort(dim=1), expected)


@pytest.mark.slow
def test_encode_keeps_order_at_any_batch_size_and_leaves_the_mode(tiny_model: Path) -> None:
    model = disturbed(gaussian(tiny_model)).train()
    whole = model.encode(TEXTS, batch_size=64)
    torch.testing.assert_close(model.encode(TEXTS, batch_size=2, show_progress=True), whole, atol=1e-5, rtol=1e-5)
    assert model.base.training
    assert model.training
    found = model.encode(TEXTS, convert_to_numpy=True, role="document")
    np.testing.assert_array_equal(found, whole.numpy())
    assert model.encode("a folder").shape == (1, 32)
    assert model.encode([]).shape == (0, 32)
    assert model.base_features([]).shape == (0, 32)
    torch.testing.assert_close(model.eval()(TEXTS), whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="text 0"):
        model.encode([None])  # type: ignore[list-item]


@pytest.mark.slow
def test_prompts_are_the_bases_own_unless_given(prompted_model: Path, tiny_model: Path) -> None:
    own, bare = gaussian(prompted_model), gaussian(tiny_model)
    assert own.prompts == {"query": "query: ", "document": "passage: "}
    for role, prompt in own.prompts.items():
        expected = bare.encode([prompt + text for text in TEXTS])
        torch.testing.assert_close(own.encode(TEXTS, role=role), expected, atol=1e-5, rtol=1e-5)
    none = gaussian(prompted_model, query_prompt="", document_prompt="list ")
    assert none.prompts == {"query": "", "document": "list "}
    torch.testing.assert_close(none.encode(TEXTS, role="query"), bare.encode(TEXTS), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_frozen_base_has_neither_gradient_nor_dropout(tiny_model: Path) -> None:
    model = gaussian(tiny_model, freeze_base=True, use_predictor=True).train()
    assert not model.base.training
    assert model.projection.training
    features = model.base_features(TEXTS)
    assert not features.requires_grad
    assert torch.equal(features, model.base_features(TEXTS))
    torch.autograd.backward(model.predict_query(model(TEXTS, "query")).square().sum())
    assert all(parameter.grad is None for parameter in model.base.parameters())
    trainable = model.get_trainable_parameters()
    assert {name: len(parameters) for name, parameters in trainable.items()} == {
        "base": 0,
        "projection": 5,
        "predictor": 5,
    }
    # Its projection can be trained at a rate of its own.
    groups = model.parameter_groups(2e-5, projection_learning_rate=5e-4)
    assert [(group["name"], group["lr"]) for group in groups] == [("projection", 5e-4), ("predictor", 5e-4)]
    torch.optim.AdamW(groups).step()


@pytest.mark.slow
def test_a_trained_base_has_both(tiny_model: Path) -> None:
    model = gaussian(tiny_model).train()
    assert model.base.training
    first = model.base_features(TEXTS)
    assert not torch.equal(first, model.base_features(TEXTS))
    torch.autograd.backward(first.sum())
    assert any(parameter.grad is not None for parameter in model.base.parameters())
    groups = model.parameter_groups(1e-5, 2e-5, 3e-4)
    assert [(group["name"], group["lr"]) for group in groups] == [("base", 2e-5), ("projection", 3e-4)]
    assert [group["lr"] for group in model.parameter_groups(1e-5)] == [1e-5, 1e-5]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.slow
def test_early_layers_of_a_real_architecture(deep_model: Path) -> None:
    model = gaussian(deep_model, freeze_early_layers=True).train()
    model(TEXTS).square().sum().backward()
    frozen: set[str] = set()
    moving: set[str] = set()
    for name, parameter in model.base.named_parameters():
        (frozen if parameter.grad is None else moving).add(name)
        assert parameter.requires_grad == (parameter.grad is not None) or "pooler" in name
    assert {n for n in frozen if "pooler" not in n} == {
        n for n in frozen | moving if "embeddings" in n or any(f"layer.{k}." in n for k in range(4))
    }
    assert any("layer.4." in name for name in moving)
    assert any("layer.5." in name for name in moving)
    model.set_frozen(False)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_a_base_without_later_layers_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="has 2 layers; freezing the first 4 leaves none"):
        gaussian(tiny_model, freeze_early_layers=True)


@pytest.mark.slow
def test_without_normalisation_the_head_sees_the_raw_vectors(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    base = SentenceTransformer(str(tiny_model), device="cpu", local_files_only=True)
    raw = base.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)
    base.append(Normalize())
    base.save(str(tmp_path / "normal"), create_model_card=False)
    model = gaussian(tmp_path / "normal", normalize_embeddings=False)
    torch.testing.assert_close(model.encode_base(TEXTS), raw.clone(), atol=1e-5, rtol=1e-5)
    unit = gaussian(tmp_path / "normal")
    assert unit.encode_base(TEXTS).norm(dim=1).tolist() == pytest.approx([1] * 5, rel=1e-5)
    # The base as it is has no such module: nothing is dropped.
    torch.testing.assert_close(gaussian(tiny_model, normalize_embeddings=False).encode_base(TEXTS), raw.clone())


@pytest.mark.slow
def test_a_cut_starts_in_the_principal_directions(tiny_model: Path) -> None:
    model = gaussian(tiny_model, 3)
    share = model.initialise_projection(model.encode_base(TEXTS))
    assert 0.5 < share < 1
    assert model.encode(TEXTS).square().sum(dim=1).mean().item() == pytest.approx(3, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("output_dim", [20, 32])
def test_as_sentence_transformer_it_gives_the_same_vectors(
    prompted_model: Path, tmp_path: Path, predictor: bool, output_dim: int
) -> None:
    model = disturbed(gaussian(prompted_model, output_dim, use_predictor=predictor)).eval()
    model.save_sentence_transformer(tmp_path / "written")
    loaded = SentenceTransformer(str(tmp_path / "written"), device="cpu", local_files_only=True)
    modules = (tmp_path / "written" / "modules.json").read_text()
    assert "jasper" not in modules
    documents, queries = model.encode(TEXTS), model.predict_query(model.encode(TEXTS, role="query")).detach()
    checks: list[tuple[Any, Tensor]] = [
        (loaded.encode, documents),
        (loaded.encode_document, documents),
        (loaded.encode_query, queries),
    ]
    for method, expected in checks:
        found = method(TEXTS, convert_to_tensor=True, show_progress_bar=False)
        torch.testing.assert_close(found.clone(), expected, atol=1e-5, rtol=1e-5)
    assert loaded.similarity_fn_name == "euclidean"
    # The folder is an encoder like any other, with the vectors of `encoder()`.
    stored = SentenceEncoder(str(tmp_path / "written"), device="cpu")
    roles: list[Role] = ["query", "document"]
    for role in roles:
        np.testing.assert_allclose(stored.encode(TEXTS, role), model.encoder().encode(TEXTS, role), atol=1e-5)


@pytest.mark.slow
def test_a_base_with_modules_of_its_own_cannot_be_written(tiny_model: Path, tmp_path: Path) -> None:
    class Own(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features

    model = gaussian(tiny_model)
    model.base.append(Own())
    with pytest.raises(InputError, match="cannot be written as they are: Own"):
        model.save_sentence_transformer(tmp_path / "written")
    assert not (tmp_path / "written").exists()


@pytest.mark.slow
def test_it_is_an_encoder_known_by_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    model = disturbed(gaussian(tiny_model, 20, use_predictor=True, freeze_base=True))
    encoder = model.encoder()
    assert isinstance(encoder, Encoder)
    assert as_encoder(encoder) is encoder
    documents = model.encode(TEXTS)
    sides: dict[Role, Tensor] = {"document": documents, "query": model.predict_query(documents).detach()}
    for role, rows in sides.items():
        found = encoder.encode(TEXTS, role)
        np.testing.assert_allclose(found, nn.functional.normalize(rows, dim=1).numpy(), atol=1e-6)
    assert encoder.encode([], "query").shape == (0, 20)
    assert encoder.dimension == identity_of(encoder).dimension == 20
    store = EmbeddingStore(tmp_path)
    store.embed(TEXTS, encoder, "document")
    _, report = store.embed_with_report(TEXTS, model.encoder(), "document")
    assert report.encoded == 0
    with torch.no_grad():
        model.projection.linear.weight[0, 0] += 0.1
    assert identity_of(model.encoder()).mismatch(identity_of(encoder))
    assert encoder.identity().mismatch(gaussian(tiny_model, 20, freeze_base=True).encoder().identity())


@pytest.mark.slow
def test_the_base_is_given_by_name_environment_or_default(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JASPER_BASE_MODEL", str(tiny_model))
    assert GaussianEmbeddingGemma(32, device="cpu").base_identity.name == str(tiny_model)
    monkeypatch.delenv("JASPER_BASE_MODEL")
    with pytest.raises(InputError, match="google/embeddinggemma-300m") as error:
        GaussianEmbeddingGemma(32, device="cpu", offline=True)
    for way in ("--base_model", "JASPER_BASE_MODEL", "demo"):
        assert way in str(error.value)
    with pytest.raises(InputError, match="at least 1") as error:
        gaussian(tiny_model, 0)
    with pytest.raises(InputError, match="64 positions"):
        gaussian(tiny_model, max_seq_length=65)


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing_but_memory(deep_model: Path) -> None:
    def gradients(change: Callable[[GaussianEmbeddingGemma], None]) -> list[Tensor | None]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = gaussian(deep_model, freeze_early_layers=True)
        change(model)
        # Gradient checkpointing works in training mode; dropout would differ.
        for module in model.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(TEXTS).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = gradients(lambda _: None)
    for one, other in zip(plain, gradients(lambda model: model.enable_gradient_checkpointing()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_a_copy_is_independent(tiny_model: Path) -> None:
    model = gaussian(tiny_model, freeze_base=True)
    other = disturbed(copy.deepcopy(model))
    assert not torch.equal(model.encode(TEXTS), other.encode(TEXTS))
