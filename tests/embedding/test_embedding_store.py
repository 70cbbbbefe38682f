from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jasper_rag.embedding.embedding_store import EmbeddingStore, StoreReport, default_store_root
from jasper_rag.embedding.encoder import EncoderIdentity, Role, Vectors, as_encoder
from jasper_rag.errors import InputError

IDENTITY = EncoderIdentity(name="hashing", weights_sha256="ab" * 32, dimension=6)
TEXTS = [f"text number {row} " + "word " * (row % 7) for row in range(40)]


class HashEncoder:
    """Vectors seeded by the text; remembers what it was asked."""

    def __init__(self, identity: EncoderIdentity = IDENTITY) -> None:
        self._identity = identity
        self.calls: list[list[str]] = []

    def identity(self) -> EncoderIdentity:
        return self._identity

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        self.calls.append(list(texts))
        digests = [hashlib.sha256(f"{role}{text}".encode()).digest() for text in texts]
        seeds = [int.from_bytes(digest[:8], "little") for digest in digests]
        vectors: Vectors = np.array([np.random.default_rng(seed).standard_normal(6) for seed in seeds])
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    @property
    def encoded(self) -> list[str]:
        return [text for call in self.calls for text in call]


def shards_in(root: Path) -> list[Path]:
    return sorted(root.glob("*/shard-*.safetensors"))


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path, texts_per_shard=8, texts_per_call=3)


def test_vectors_come_back_in_order_and_are_encoded_once(store: EmbeddingStore) -> None:
    encoder = HashEncoder()
    texts = [*TEXTS, TEXTS[3], TEXTS[3]]
    expected = HashEncoder().encode(texts, "document")
    vectors, report = store.embed_with_report(texts, encoder, "document")
    np.testing.assert_array_equal(vectors, expected)
    assert vectors.dtype == np.float32
    assert sorted(encoder.encoded) == sorted(TEXTS)
    assert report == StoreReport(total=42, unique=40, reused=0, encoded=40, seconds=report.seconds)

    again = HashEncoder()
    vectors, report = store.embed_with_report(texts[::-1], again, "document")
    np.testing.assert_array_equal(vectors, expected[::-1])
    assert (again.calls, report.reused, report.encoded) == ([], 40, 0)


def test_only_changed_texts_are_encoded_and_said_so(store: EmbeddingStore, caplog: pytest.LogCaptureFixture) -> None:
    store.embed(TEXTS, HashEncoder(), "document")
    encoder = HashEncoder()
    with caplog.at_level(logging.INFO, "jasper_rag"):
        store.embed([*TEXTS[:-1], "a new text"], encoder, "document", description="passages")
    assert encoder.encoded == ["a new text"]
    assert "passages: 40 texts, 39 reused, 1 encoded" in caplog.text


def test_longest_first_in_calls_and_shards_of_the_given_size(store: EmbeddingStore, tmp_path: Path) -> None:
    encoder = HashEncoder()
    store.embed(TEXTS, encoder, "document")
    lengths = [len(text) for text in encoder.encoded]
    assert lengths == sorted(lengths, reverse=True)
    assert {len(call) for call in encoder.calls} == {3, 2}
    tensors = [load_file(path) for path in shards_in(tmp_path)]
    assert [part["vectors"].shape for part in tensors] == [(8, 6)] * 5
    assert tensors[0]["text_sha256"].dtype == np.uint8


@pytest.mark.slow
def test_the_order_of_texts_changes_no_file(tmp_path: Path) -> None:
    for name, texts in (("a", TEXTS), ("b", TEXTS[::-1])):
        EmbeddingStore(tmp_path / name, texts_per_shard=8).embed(texts, HashEncoder(), "document")
    assert [p.name for p in shards_in(tmp_path / "a")] == [p.name for p in shards_in(tmp_path / "b")]


def test_roles_prompts_and_encoders_never_share(store: EmbeddingStore) -> None:
    store.embed(TEXTS[:3], HashEncoder(), "document")
    for identity, role in [
        (IDENTITY, "query"),
        (replace(IDENTITY, document_prompt="passage: "), "document"),
        (replace(IDENTITY, weights_sha256="cd" * 32), "document"),
    ]:
        encoder = HashEncoder(identity)
        store.embed(TEXTS[:3], encoder, role)  # type: ignore[arg-type]
        assert len(encoder.encoded) == 3
    encoder = HashEncoder(replace(IDENTITY, query_prompt="query: "))
    store.embed(TEXTS[:3], encoder, "document")
    assert encoder.calls == []


def test_manifest_says_whose_vectors_and_lists_checksums(store: EmbeddingStore, tmp_path: Path) -> None:
    identity = replace(IDENTITY, document_prompt="passage: ", max_seq_length=128)
    store.embed(TEXTS, HashEncoder(identity), "document")
    folder = tmp_path / identity.fingerprint("document")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert EncoderIdentity.from_json(manifest["encoder"]) == identity
    assert (manifest["role"], manifest["prompt"], manifest["max_seq_length"]) == ("document", "passage: ", 128)
    assert (manifest["count"], manifest["dimension"], manifest["dtype"]) == (40, 6, "float32")
    for entry in manifest["shards"]:
        content = (folder / entry["file"]).read_bytes()
        assert entry == {"file": entry["file"], "count": 8, "sha256": hashlib.sha256(content).hexdigest()}


def test_a_missing_or_outdated_manifest_is_made_anew(store: EmbeddingStore, tmp_path: Path) -> None:
    store.embed(TEXTS, HashEncoder(), "document")
    manifest = next(tmp_path.glob("*/manifest.json"))
    content = manifest.read_text()
    manifest.unlink()
    encoder = HashEncoder()
    store.embed(TEXTS, encoder, "document")
    assert (manifest.read_text(), encoder.calls) == (content, [])
    outdated = json.loads(content)
    del outdated["shards"][0]
    manifest.write_text(json.dumps(outdated))
    store.embed(TEXTS, encoder, "document")
    assert (manifest.read_text(), encoder.calls) == (content, [])


def test_a_full_store_is_only_read(store: EmbeddingStore, tmp_path: Path) -> None:
    store.embed(TEXTS, HashEncoder(), "document")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    store.embed(TEXTS, HashEncoder(), "document")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_two_writers_do_not_harm_each_other(tmp_path: Path) -> None:
    class Meanwhile(HashEncoder):
        """While it encodes, another process stores overlapping texts."""

        def encode(self, texts: Sequence[str], role: Role) -> Vectors:
            if not self.calls:
                EmbeddingStore(tmp_path, texts_per_shard=5).embed(TEXTS[:20], HashEncoder(), role)
            return super().encode(texts, role)

    store = EmbeddingStore(tmp_path, texts_per_shard=8)
    expected = HashEncoder().encode(TEXTS, "document")
    np.testing.assert_array_equal(store.embed(TEXTS, Meanwhile(), "document"), expected)
    encoder = HashEncoder()
    np.testing.assert_array_equal(store.embed(TEXTS, encoder, "document"), expected)
    assert encoder.calls == []
    assert len(shards_in(tmp_path)) == 9
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    assert len(manifest["shards"]) == 9


def test_left_over_temporary_files_are_ignored(store: EmbeddingStore, tmp_path: Path) -> None:
    folder = tmp_path / IDENTITY.fingerprint("document")
    folder.mkdir()
    (folder / ".shard-0123.safetensors.x.tmp").write_bytes(b"half")
    assert store.embed(TEXTS, HashEncoder(), "document").shape == (40, 6)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "rename"])
def test_a_damaged_shard_is_named_and_mended_by_deleting_it(damage: str, store: EmbeddingStore, tmp_path: Path) -> None:
    expected = store.embed(TEXTS, HashEncoder(), "document")
    victim = shards_in(tmp_path)[2]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    if damage == "rename":
        victim = victim.rename(victim.with_name("shard-000001.safetensors"))
    else:
        victim.write_bytes({"cut": bytes(content[:-5]), "flip": bytes(content), "empty": b""}[damage])
    time.sleep(0.01)
    with pytest.raises(InputError, match=r"cut or altered[\s\S]*Delete that file") as caught:
        store.embed(TEXTS, HashEncoder(), "document")
    assert caught.value.path == victim
    victim.unlink()
    encoder = HashEncoder()
    np.testing.assert_array_equal(store.embed(TEXTS, encoder, "document"), expected)
    assert len(encoder.encoded) == 8


def test_shards_of_another_encoder_are_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    other = replace(IDENTITY, weights_sha256="cd" * 32)
    store.embed(TEXTS, HashEncoder(other), "document")
    mine, theirs = tmp_path / IDENTITY.fingerprint("document"), tmp_path / other.fingerprint("document")
    theirs.rename(mine)
    with pytest.raises(InputError, match="another encoder: two versions of 'hashing' differ in weights"):
        store.embed(TEXTS, HashEncoder(), "document")
    (mine / "manifest.json").unlink()
    with pytest.raises(InputError, match="this shard holds 6-dimensional vectors of the encoder"):
        store.embed(TEXTS, HashEncoder(), "document")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "unreadable"),
        ("[]", "unreadable"),
        ("[" * 100_000, "unreadable"),
        ('{"format_version": 1, "encoder": {}}', "missing"),
        ("v9", "format version 9"),
    ],
)
def test_an_unusable_manifest_is_refused(content: str, problem: str, store: EmbeddingStore, tmp_path: Path) -> None:
    store.embed(TEXTS[:2], HashEncoder(), "document")
    manifest = next(tmp_path.glob("*/manifest.json"))
    if content == "v9":
        content = json.dumps({**json.loads(manifest.read_text()), "format_version": 9})
    manifest.write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        store.embed(TEXTS[:2], HashEncoder(), "document")
    assert caught.value.path == manifest


class Returns(HashEncoder):
    """Returns fixed vectors, whatever it is asked."""

    def __init__(self, vectors: object) -> None:
        super().__init__()
        self._vectors = vectors

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        return self._vectors  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        (np.full((1, 6), np.nan), r"NaN or infinity for text 0 \('the text'\)"),
        (np.eye(1, 5), "returned 5 dimensions, its identity says 6"),
        (2 * np.eye(1, 6), r"length 2 for text 0 \('the text'\)"),
        (np.eye(2, 6), r"shape \[2, 6\] for 1 texts"),
    ],
)
def test_bad_vectors_are_refused_and_not_stored(
    vectors: object, problem: str, store: EmbeddingStore, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=problem):
        store.embed(["the text"], Returns(vectors), "document")
    assert shards_in(tmp_path) == []


def test_bad_texts_are_refused(store: EmbeddingStore) -> None:
    with pytest.raises(InputError, match="text 1 is nan"):
        store.embed(["a", float("nan")], HashEncoder(), "document")  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"text 0 .* not valid Unicode"):
        store.embed(["a\ud800"], HashEncoder(), "document")


def test_no_texts(store: EmbeddingStore) -> None:
    vectors, report = store.embed_with_report([], HashEncoder(), "document")
    assert (vectors.shape, report.total, report.unique, report.reused, report.encoded) == ((0, 6), 0, 0, 0, 0)


def test_plain_functions_are_probed_for_their_identity(store: EmbeddingStore) -> None:
    calls = []

    def function(texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        calls.append(len(texts))
        return np.array([[len(text), 1.0] for text in texts])

    first = store.embed(["one", "three"], as_encoder(function), "query")
    np.testing.assert_array_equal(store.embed(["one", "three"], as_encoder(function), "query"), first)
    assert calls == [3, 3, 2, 3, 3]


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JASPER_CACHE", "~/mine")
    assert default_store_root() == Path.home() / "mine"
    assert EmbeddingStore().root == Path.home() / "mine"
    monkeypatch.delenv("JASPER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_store_root() == Path("/var/cache/jasper-rag/embeddings")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_store_root() == Path.home() / ".cache" / "jasper-rag" / "embeddings"
    with pytest.raises(InputError, match="the cache folder '~no-such-user/x' has no place"):
        EmbeddingStore("~no-such-user/x")


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0 and 256"):
        EmbeddingStore(tmp_path, texts_per_shard=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created here"):
        EmbeddingStore(tmp_path / "file").embed(["a"], HashEncoder(), "query")
