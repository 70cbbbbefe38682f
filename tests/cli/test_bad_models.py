"""Encoders that return nonsense, saved models that are damaged, and texts far longer than an encoder reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`, hidden ones too, with its bytes."""
    paths = directory.rglob("*")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def one_bad(value: float) -> Callable[[list[str]], object]:
    """Good vectors but for one number, in the first text that has a word."""

    def encode(texts: list[str]) -> object:
        vectors = np.ones((len(texts), 4))
        vectors[[row for row, text in enumerate(texts) if "garbage" in text][:1], 2] = value
        return vectors

    return encode


def varying(texts: list[str]) -> object:
    return np.ones((len(texts), 4 + (len(texts) != 3)))


ENCODERS: list[tuple[str, object, str]] = [
    ("NaN", one_bad(np.nan), r"returned NaN or infinity for text \d+ \(.*garbage"),
    ("infinity", one_bad(np.inf), r"returned NaN or infinity for text \d+ \(.*garbage"),
    ("zeros", lambda texts: np.zeros((len(texts), 4)), "vector of zeros for text 0"),
    ("too few", lambda texts: np.ones((len(texts) - 1, 4)), r"returned shape \[2, 4\] for 3 texts; expected numbers"),
    ("one for all", lambda texts: np.ones(4), r"returned shape \[4\] for 3 texts"),
    ("no width", lambda texts: np.ones((len(texts), 0)), r"returned shape \[3, 0\]"),
    ("other width later", varying, "returned 5 dimensions, its identity says 4"),
    ("ragged", lambda texts: [[1.0] * (row + 1) for row in range(len(texts))], "rows of unequal shape"),
    ("words", lambda texts: [["a", "b"]] * len(texts), "holding <U1"),
    ("nothing", lambda texts: None, "returned NoneType"),
    ("no encoder", 5, "an encoder cannot be made of int"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "problem"), [pytest.param(*rest, id=name) for name, *rest in ENCODERS])
def test_an_encoder_that_returns_nonsense(
    synonym_set: RetrievalSet, quick_config: JasperConfig, tmp_path: Path, encoder: object, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        Jasper.fit(synonym_set, encoder=encoder, config=quick_config, store=EmbeddingStore(tmp_path))
    assert caught.value.remedy
    assert list(tmp_path.rglob("shard-*")) == []


def test_an_encoder_whose_roles_differ_in_width(synonym_set: RetrievalSet, tmp_path: Path) -> None:
    class Uneven:
        def encode(self, texts: list[str], role: str) -> object:
            return np.eye(len(texts), 4 + (role == "query"), dtype=np.float32)

    with pytest.raises(InputError, match="4 dimensions for documents and 5 for queries") as caught:
        Jasper.fit(synonym_set, encoder=Uneven(), store=EmbeddingStore(tmp_path))
    assert "one space" in caught.value.remedy


@pytest.mark.slow
def test_a_cut_or_altered_file_of_a_run_is_named(jasper: Command, run: Path, tmp_path: Path) -> None:
    """Cut at several places or with one bit turned, file by file; nothing is written."""
    for name, content in files_of(run / "model").items():
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        for count, bad in enumerate([b"", content[:middle], content[:-2], turned]):
            copy = Path(shutil.copytree(run / "model", tmp_path / f"{Path(name).name}{count}"))
            (copy / name).write_bytes(bad)
            before = files_of(tmp_path)
            outcome = jasper("search", "--run", copy, "car?")
            assert (outcome.code, outcome.out) == (2, ""), outcome.err
            assert f"jasper: {copy / name}: " in outcome.err or f"jasper: {copy / name} [" in outcome.err
            assert "run `jasper fit` again" in outcome.err
            assert "Traceback" not in outcome.err
            assert files_of(tmp_path) == before


@pytest.fixture(scope="module")
def short_sighted(
    tmp_path_factory: pytest.TempPathFactory, word_vectors: dict[str, list[float]], saved_bert: Callable[..., Path]
) -> Path:
    """A model of random weights that reads 16 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", *word_vectors]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    shape |= {"max_position_embeddings": 32}
    return saved_bert(tmp_path_factory.mktemp("short"), tokenizer, 16, {}, **shape, initializer_range=0.5)


@pytest.mark.slow
def test_a_text_of_a_megabyte_is_read_and_its_cut_is_noted(
    jasper: Command, damaged: Path, settings: Path, short_sighted: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (damaged / "corpus.jsonl").read_text().splitlines()]
    rows[3]["text"] = "car and road " * 80_000
    (damaged / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    arguments = ("fit", "--data", damaged, "--output-dir", run, "--config", settings, "--encoder", short_sighted)
    outcome = jasper(*arguments)
    assert outcome.code == 0, outcome.err
    assert "Documents longer than the encoder reads: 0.6%" in outcome.err
    assert "Token indices sequence length" not in outcome.err
    assert (run / "report.html").stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_program_itself_says_it_and_leaves_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jasper_rag.cli.main", "fit", "--data", "nowhere.csv", "--output-dir", "run"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("jasper: nowhere.csv: nothing exists at this path.\n  ")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
