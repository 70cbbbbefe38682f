from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from jasper_rag.embedding.encoder import CallableEncoder, as_encoder, identity_of
from jasper_rag.embedding.sentence_encoder import SentenceEncoder, _is_not_harmless_report, quiet_loading
from jasper_rag.embedding.sentence_encoder_config import SentenceEncoderConfig
from jasper_rag.errors import InputError

TEXTS = ["the heart pump blood", "list the files", "a folder"]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> SentenceEncoder:
    return SentenceEncoder(str(tiny_model), device="cpu")


@pytest.mark.slow
def test_vectors_are_the_models_own_normalised(tiny_model: Path, encoder: SentenceEncoder) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu", local_files_only=True)
    expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    vectors = encoder.encode(TEXTS, "document")
    assert vectors.dtype == np.float32
    assert encoder.dimension == 32
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_no_texts_give_an_empty_matrix(encoder: SentenceEncoder) -> None:
    assert encoder.encode([], "query").shape == (0, 32)


@pytest.mark.slow
def test_given_prompts_are_put_before_the_text(tiny_model: Path, encoder: SentenceEncoder) -> None:
    prompted = SentenceEncoder(str(tiny_model), query_prompt="query: ", device="cpu")
    np.testing.assert_allclose(
        prompted.encode(TEXTS, "query"), encoder.encode([f"query: {t}" for t in TEXTS], "query"), atol=1e-6
    )
    np.testing.assert_array_equal(prompted.encode(TEXTS, "document"), encoder.encode(TEXTS, "document"))


@pytest.mark.slow
def test_the_models_own_prompts_are_used_unless_others_are_given(
    prompted_model: Path, encoder: SentenceEncoder
) -> None:
    own = SentenceEncoder(str(prompted_model), device="cpu")
    assert (own.prompt("query"), own.prompt("document")) == ("query: ", "passage: ")
    expected = encoder.encode([f"passage: {t}" for t in TEXTS], "document")
    np.testing.assert_allclose(own.encode(TEXTS, "document"), expected, atol=1e-6)
    given = SentenceEncoder(str(prompted_model), query_prompt="list ", device="cpu")
    assert given.prompt("query") == "list "
    none = SentenceEncoder(str(prompted_model), own_prompts=False, device="cpu")
    assert (none.prompt("query"), none.prompt("document")) == ("", "")
    np.testing.assert_array_equal(none.encode(TEXTS, "query"), encoder.encode(TEXTS, "query"))


@pytest.mark.slow
def test_max_seq_length_cuts_texts(tiny_model: Path, encoder: SentenceEncoder) -> None:
    short = SentenceEncoder(str(tiny_model), max_seq_length=5, device="cpu")
    assert (encoder.max_seq_length, short.max_seq_length) == (16, 5)
    np.testing.assert_allclose(
        short.encode(["the heart pump blood files"], "document"),
        encoder.encode(["the heart pump"], "document"),
        atol=1e-6,
    )


@pytest.mark.slow
def test_truncated_share_counts_tokens_with_specials_and_prompt(tiny_model: Path) -> None:
    short = SentenceEncoder(str(tiny_model), max_seq_length=6, query_prompt="query ", device="cpu")
    texts = ["heart " * n for n in (3, 4, 5, 6)]  # 5, 6, 7, 8 tokens with [CLS] and [SEP]
    assert short.truncated_share(texts) == 0.5
    assert short.truncated_share(texts, role="query") == 0.75
    assert short.truncated_share([]) == 0.0


@pytest.mark.slow
def test_truncated_share_of_many_texts_is_a_seeded_estimate(tiny_model: Path) -> None:
    short = SentenceEncoder(str(tiny_model), max_seq_length=4, device="cpu")
    texts = ["heart blood list" if row % 4 == 0 else "heart" for row in range(800)]
    estimate = short.truncated_share(texts, sample=200, seed=1)
    assert estimate == short.truncated_share(texts, sample=200, seed=1)
    assert estimate == pytest.approx(0.25, abs=0.1)
    assert short.truncated_share(texts) == 0.25


@pytest.mark.slow
def test_truncated_share_says_nothing_on_stderr(
    tiny_model: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = SentenceEncoder(str(tiny_model), device="cpu")
    encoder.truncated_share(["heart " * 300])
    encoder.encode(["heart"], "query")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_identity_follows_prompts_length_and_weights(
    tiny_model: Path, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    identity = identity_of(encoder)
    assert identity is encoder.identity()
    assert (identity.dimension, identity.max_seq_length, identity.dtype, identity.revision) == (32, 16, "float32", "")
    assert len(identity.weights_sha256) == len(identity.configuration_sha256) == 64
    prompted = SentenceEncoder(str(tiny_model), query_prompt="query: ", device="cpu").identity()
    assert prompted.fingerprint("document") == identity.fingerprint("document")
    assert prompted.fingerprint("query") != identity.fingerprint("query")
    short = SentenceEncoder(str(tiny_model), max_seq_length=8, device="cpu").identity()
    assert short.fingerprint("document") != identity.fingerprint("document")
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    assert SentenceEncoder(str(moved), device="cpu").identity().mismatch(identity) is None
    pooling = moved / "1_Pooling" / "config.json"
    assert "mean" in pooling.read_text()
    pooling.write_text(pooling.read_text().replace("mean", "max"))
    difference = SentenceEncoder(str(moved), device="cpu").identity().mismatch(identity)
    assert difference is not None
    assert "configuration" in difference


@pytest.mark.slow
def test_as_encoder_takes_a_folder_and_a_loaded_model(tiny_model: Path, encoder: SentenceEncoder) -> None:
    by_path = as_encoder(tiny_model)
    assert isinstance(by_path, SentenceEncoder)
    wrapped = as_encoder(encoder.model)
    assert isinstance(wrapped, CallableEncoder)
    np.testing.assert_allclose(wrapped.encode(TEXTS, "query"), encoder.encode(TEXTS, "query"), atol=1e-6)


@pytest.mark.slow
def test_from_config(tiny_model: Path) -> None:
    config = SentenceEncoderConfig(name=str(tiny_model), max_seq_length=8, device="cpu", batch_size=2)
    encoder = SentenceEncoder.from_config(config)
    assert encoder.config == config
    assert encoder.encode(TEXTS, "document").shape == (3, 32)


@pytest.mark.slow
def test_half_precision_on_a_cpu_falls_back_with_a_warning(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = SentenceEncoder(str(tiny_model), dtype="bfloat16", device="cpu")
    assert encoder.identity().dtype == "float32"
    assert encoder.model.dtype == torch.float32
    assert "bfloat16 is slower" in caplog.text


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": " "}, "empty"),
        ({"batch_size": 0}, "batch size"),
        ({"max_seq_length": 2}, "no room"),
        ({"dtype": "int8"}, "not a dtype"),
        ({"query_prompt": "caf\udce9: "}, "query_prompt .* not valid Unicode"),
        ({"document_prompt": "\ud800"}, "document_prompt .* not valid Unicode"),
    ],
)
def test_config_refuses(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        SentenceEncoderConfig(**{"name": "model", **settings})  # type: ignore[arg-type]


@pytest.mark.slow
def test_bad_device_and_length_are_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="'warp:0' cannot be used"):
        SentenceEncoder(str(tiny_model), device="warp:0")
    with pytest.raises(InputError, match="'meta' cannot be used"):
        SentenceEncoder(str(tiny_model), device="meta")
    with pytest.raises(InputError, match="65 tokens; this model has 64 positions"):
        SentenceEncoder(str(tiny_model), device="cpu", max_seq_length=65)


def test_a_broken_model_names_its_folder(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        SentenceEncoder(str(broken), device="cpu")
    assert caught.value.path == broken


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"\xff"),
        ("modules.json", b"[" * 100_000),
        ("config.json", b"{,}"),
        ("1_Pooling/config.json", b""),
    ],
)
def test_a_damaged_file_of_a_model_is_named(tiny_model: Path, tmp_path: Path, name: str, content: bytes) -> None:
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    (broken / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        SentenceEncoder(str(broken), device="cpu")
    assert caught.value.path == broken / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "5"),
        ("modules.json", "5"),
        ("modules.json", "[1]"),
        ("config_sentence_transformers.json", "[]"),
        ("config_sentence_transformers.json", '{"prompts": {"query": 5}}'),
    ],
)
def test_wrong_content_of_a_model_is_no_traceback(tiny_model: Path, tmp_path: Path, name: str, content: str) -> None:
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    (broken / name).write_text(content)
    with pytest.raises(InputError, match="cannot be loaded"):
        SentenceEncoder(str(broken), device="cpu")


def test_too_little_memory_is_no_damage(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("jasper_rag.embedding.sentence_encoder.SentenceTransformer", fail)
    with pytest.raises(MemoryError):
        SentenceEncoder(str(tiny_model), device="cpu")


def test_out_of_memory_says_what_to_lower(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(encoder.model, "encode_query", fail)
    with pytest.raises(InputError, match="batches of 64 texts"):
        encoder.encode(["heart"], "query")


@pytest.mark.slow
def test_dimension_is_probed_where_the_model_does_not_say(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder(str(tiny_model), device="cpu")
    monkeypatch.setattr(encoder.model, "get_embedding_dimension", lambda: None)
    assert encoder.dimension == 32


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("hub_bars", [True, False])
def testquiet_loading_restores_the_progress_bars(bars: bool, hub_bars: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_logging, "_tqdm_active", bars)
    (enable_progress_bars if hub_bars else disable_progress_bars)()
    with quiet_loading():
        assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled() is bars
    assert are_progress_bars_disabled() is not hub_bars
    enable_progress_bars()


@pytest.mark.parametrize(
    ("message", "kept"),
    [("BertModel LOAD REPORT: x UNEXPECTED", False), ("BertModel LOAD REPORT: x MISSING", True), ("other", True)],
)
def test_only_the_harmless_load_report_is_dropped(message: str, kept: bool) -> None:
    record = logging.LogRecord("transformers", logging.WARNING, "", 0, message, None, None)
    assert _is_not_harmless_report(record) is kept
