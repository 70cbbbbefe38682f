"""What the Gaussian encoders' documentation says beside its commands: single flags, calls, pairs by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = "--train_data data/processed/train.json --val_data data/processed/val.json"
FLAGS = ("--batch_size 4", "--output_dim 256", "--freeze_base", "--mixed_precision", "--gradient_checkpointing")
RATES = "--base_learning_rate 1e-5 --projection_learning_rate 5e-4"
FILLED = ["--epochs", "1"]

Script = Callable[..., str]


@pytest.mark.slow
def test_a_comment_after_a_backslash_ends_the_command(script: Script, workplace: Path) -> None:
    """Bash hands over the escaped blank and goes on with the next line as a command: the program refuses the blank."""
    with pytest.raises(AssertionError, match="an argument is a space"):
        script("train.py", "--lambda_isotropy", "1.5", " ")
    assert not (workplace / "checkpoints/test").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flag", FLAGS)
def test_flags_against_a_full_memory(flag: str, script: Script, workplace: Path) -> None:
    script("train.py", *DATA.split(), *flag.split(), *FILLED, "--output_dir", "checkpoints/small")
    settings = json.loads(Path("checkpoints/small/train_config.json").read_text())
    name, _, value = flag.removeprefix("--").partition(" ")
    assert settings[name] == (int(value) if value else True)


@pytest.mark.slow
def test_rates_of_their_own(script: Script, workplace: Path) -> None:
    script("train.py", *DATA.split(), *RATES.split(), *FILLED)
    log = Path("training.log").read_text(encoding="utf-8")
    assert "Learning rates (peak): base 1.00e-05, projection 5.00e-04\n" in log


@pytest.mark.slow
def test_pairs_written_by_hand(script: Script, workplace: Path) -> None:
    pairs = [{"query": f"what is {n}?", "positive": f"it is {n}.", "negative": "python."} for n in range(5)]
    Path("data/own.json").write_text(json.dumps(pairs))
    assert "Loaded 5 training examples" in script("train.py", "--train_data", "data/own.json", *FILLED)


@pytest.mark.slow
def test_retrieval(workplace: Path) -> None:
    from ragcun import GaussianRetriever

    given: dict[str, Any] = {"model_path": "checkpoints/best_model.pt", "embedding_dim": 512, "use_gpu": True}
    retriever = GaussianRetriever(**given)
    documents = ["snow falls in winter.", "a bee dances.", "bread needs time."]
    retriever.add_documents(documents)
    results = retriever.retrieve("a bee dances", top_k=5)
    assert {document for document, _ in results} == set(documents)
    assert all(re.fullmatch(r"\d+\.\d{3}", f"{distance:.3f}") for _, distance in results)
    assert len(GaussianRetriever("checkpoints/best_model.pt")) == 0


@pytest.mark.slow
def test_going_on_by_hand(script: Script, workplace: Path) -> None:
    """The documented calls, after training of the whole model; over a frozen base only the head is in the file."""
    import torch

    from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma

    checkpoint = torch.load("checkpoints/checkpoint_epoch_2.pt")
    model = GaussianEmbeddingGemma(output_dim=512)
    optimizer = torch.optim.AdamW(model.parameter_groups(2e-5))
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    assert checkpoint["epoch"] + 1 == 3
    script("train.py", *DATA.split(), *FILLED, "--freeze_base", "--output_dir", "checkpoints/head")
    head = torch.load("checkpoints/head/checkpoint_epoch_1.pt")["model_state_dict"]
    GaussianEmbeddingGemma(output_dim=512).load_state_dict(head)
    assert not any(name.startswith("base.") for name in head)


@pytest.mark.slow
def test_the_calls_of_our_own_guide(workplace: Path, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (repository / "docs/encoder/TRAINING_GUIDE.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "TRAINING_GUIDE.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_data_can_be_counted(workplace: Path) -> None:
    assert len(json.loads(Path("data/processed/train.json").read_text(encoding="utf-8"))) == 16
