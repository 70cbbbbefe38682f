from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from jasper_rag.embedding.embedding_shards import read_shard, write_shard
from jasper_rag.errors import InputError

VECTORS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
DIGESTS = np.random.default_rng(1).integers(0, 256, (5, 32), dtype=np.uint8)


def test_a_shard_comes_back_mapped_and_is_plain_safetensors(tmp_path: Path) -> None:
    written = write_shard(tmp_path, VECTORS, DIGESTS, "f" * 32)
    shard = read_shard(written.path, "f" * 32, 3)
    assert isinstance(shard.vectors(), np.memmap)
    np.testing.assert_array_equal(shard.vectors(), VECTORS)
    np.testing.assert_array_equal(shard.digests, DIGESTS)
    assert shard.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()
    with safe_open(written.path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("vectors"), VECTORS)
        np.testing.assert_array_equal(file.get_tensor("text_sha256"), DIGESTS)


def test_equal_content_is_one_file(tmp_path: Path) -> None:
    paths = {write_shard(tmp_path, VECTORS, DIGESTS, "f" * 32).path for _ in range(3)}
    assert list(tmp_path.iterdir()) == list(paths)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"nonsense", "no safetensors file"),
        (b"\x02" + bytes(7) + b"{}", "no shard of an embedding store"),
        (b"\x02" + bytes(7) + b"[]", "no shard of an embedding store"),
    ],
)
def test_a_foreign_file_with_a_fitting_name_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / f"shard-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_shard(path, "f" * 32, 3)


@pytest.mark.parametrize(("fingerprint", "dimension"), [("e" * 32, 3), ("f" * 32, 4)])
def test_vectors_of_another_space_are_refused(fingerprint: str, dimension: int, tmp_path: Path) -> None:
    path = write_shard(tmp_path, VECTORS, DIGESTS, "f" * 32).path
    with pytest.raises(InputError, match="holds 3-dimensional vectors of the encoder ffff"):
        read_shard(path, fingerprint, dimension)
