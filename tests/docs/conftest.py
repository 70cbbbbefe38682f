"""Working folders in which the pages' code blocks find what they name: a dataset; pairs, a base model, a checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet

SCRIPTS = {
    "prepare_data.py": ("jasper_rag.cli.prepare", "prepare"),
    "train.py": ("jasper_rag.cli.train_encoder", "train_encoder"),
    "evaluate.py": ("jasper_rag.cli.evaluate_encoder", "evaluate_encoder"),
    "download_msmarco.py": ("jasper_rag.cli.msmarco", "msmarco"),
}
DATA = "--train_data data/processed/train.json --val_data data/processed/val.json"


@pytest.fixture
def wiki(synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path) -> Path:
    """A folder with a steering dataset under `datasets/wiki`."""
    kept = synonym_set.queries[:50]
    qrels = {query.id: synonym_set.qrels["all"][query.id] for query in kept}
    small = RetrievalSet("small", synonym_set.documents[:50], kept, {"all": qrels})
    config = BuildConfig.model_validate({"n_clusters": 3, "negatives": {"n_neg": 3}})
    built = build_dataset(plan_build(BuildInput(small), config), word_encoder, EmbeddingStore(tmp_path / "store"))
    write_dataset(built, tmp_path / "datasets" / "wiki")
    return tmp_path


@pytest.fixture(scope="session")
def letter_bert(tmp_path_factory: pytest.TempPathFactory, saved_bert: Callable[..., Path]) -> Path:
    """A 5-layer BERT of 16 dimensions with random weights, as a sentence-transformers folder."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?-"
    pieces = ["[PAD]", "[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    shape = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 32}
    return saved_bert(tmp_path_factory.mktemp("base"), tokenizer, 32, {}, **shape, max_position_embeddings=32)


def run_script(name: str, *arguments: str) -> str:
    """A script with these arguments in this process; what it says on both streams.

    Raises:
        AssertionError: Its exit code is not 0.
    """
    from jasper_rag.cli.main import run_verb

    module, verb = SCRIPTS[name]
    said = io.StringIO()
    with mock.patch.object(sys, "argv", [name, *arguments]), pytest.raises(SystemExit) as left:  # noqa: SIM117
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run_verb(getattr(importlib.import_module(module), verb), name)
    assert not left.value.code, said.getvalue()
    return said.getvalue()


@pytest.fixture(scope="session")
def verbs() -> dict[str, Callable[..., None]]:
    """The verb that each script runs."""
    return {name: getattr(importlib.import_module(module), verb) for name, (module, verb) in SCRIPTS.items()}


@pytest.fixture(scope="session")
def script() -> Callable[..., str]:
    """`script("train.py", "--epochs", ...)` runs the script and returns what it says."""
    return run_script


@pytest.fixture(scope="session")
def encoder_files(repository: Path, letter_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file the blocks name, the prepared data and a checkpoint among them."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "data/raw/your_docs").mkdir(parents=True)
    for name, count in (("train", 16), ("val", 8)):
        pairs = json.loads((repository / f"data/processed/{name}.json").read_text(encoding="utf-8"))
        for place in ("data/processed", "data/processed/real"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / f"{name}.json").write_text(json.dumps(pairs[:count]), encoding="utf-8")
    for place in ("data/processed", "data/processed/real"):
        shutil.copy(repository / "data/processed/test_eval.json", folder / place)
    lines = (repository / "data/raw/all_docs.txt").read_text(encoding="utf-8").splitlines()
    for name in ("docs.txt", "raw/docs.txt", "raw/documents.txt", "raw/all_docs.txt"):
        kept = lines if name.endswith("all_docs.txt") else lines[:24]
        (folder / "data" / name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    for number, line in enumerate(lines[:20]):
        (folder / f"data/raw/your_docs/{number}.txt").write_text(line, encoding="utf-8")
    table = "".join(f'"item {number}?","{line}",\n' for number, line in enumerate(lines[:20]))
    (folder / "data/pairs.csv").write_text(f"query,positive,negative\n{table}", encoding="utf-8")
    for number in range(20):
        passages = {"is_selected": [0, 1], "passage_text": [f"other {number}", f"answer {number}"]}
        with (folder / "rows.jsonl").open("a", encoding="utf-8") as rows:
            rows.write(json.dumps({"query": f"what is {number}", "passages": passages}) + "\n")
    with contextlib.chdir(folder), mock.patch.dict(os.environ, {"JASPER_BASE_MODEL": str(letter_bert)}):
        run_script("train.py", *DATA.split(), "--epochs", "2", "--batch_size", "16", "--device", "cpu")
    shutil.copy(folder / "checkpoints/best_model.pt", folder / "checkpoints/pretrained.pt")
    return folder


@pytest.fixture
def workplace(
    encoder_files: Path, letter_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A copy of `encoder_files` as working directory."""
    folder = tmp_path / "here"
    shutil.copytree(encoder_files, folder)
    monkeypatch.setenv("JASPER_BASE_MODEL", str(letter_bert))
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder)
