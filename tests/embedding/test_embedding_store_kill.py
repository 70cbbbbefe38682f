"""A store whose process is killed. Run as a script, this file is that process."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import EncoderIdentity, Role, Vectors

TEXTS = [f"text number {row} " + "word " * (row % 7) for row in range(40)]


class SlowEncoder:
    """One vector per text, seeded by it; says on stdout when a call is done."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s

    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(name="slow", weights_sha256="ab" * 32, dimension=6)

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        time.sleep(self._delay_s)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        vectors: Vectors = np.array([np.random.default_rng(seed).standard_normal(6) for seed in seeds])
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        if self._delay_s:
            print("call", flush=True)
        return vectors.astype(np.float32)


@pytest.mark.slow
def test_a_kill_loses_at_most_the_shard_in_the_making(tmp_path: Path) -> None:
    root = tmp_path / "killed"
    source = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, __file__, str(root)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    )
    assert process.stdout is not None
    for _ in range(10):  # two shards of four calls are written, the third is in the making
        assert process.stdout.readline() == b"call\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert len(list(root.glob("*/shard-*.safetensors"))) == 2

    vectors, report = EmbeddingStore(root, texts_per_shard=8).embed_with_report(TEXTS, SlowEncoder(), "document")
    assert (report.reused, report.encoded) == (16, 24)
    straight = EmbeddingStore(tmp_path / "straight", texts_per_shard=8).embed(TEXTS, SlowEncoder(), "document")
    assert vectors.tobytes() == straight.tobytes()
    names = [sorted(path.name for path in folder.glob("*/*")) for folder in (root, tmp_path / "straight")]
    assert names[0] == names[1]


if __name__ == "__main__":
    EmbeddingStore(sys.argv[1], texts_per_shard=8, texts_per_call=2).embed(TEXTS, SlowEncoder(0.05), "document")
