from __future__ import annotations

import re
from pathlib import Path

import pytest

from jasper_rag.training.run_config import RunConfig
from jasper_rag.yaml_files import read_yaml

PAGES = ("JASPER_PREDICTOR.md", "TRAINING_JASPER.md")
SECTIONS = {
    "JASPER_PREDICTOR.md": ("model", "ema"),
    "TRAINING_JASPER.md": ("loss", "training", "dataset", "steering", "monitoring"),
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def key_rows(section: str) -> str:
    """The table of a section as it must stand on its page."""
    model = RunConfig.model_fields[section].annotation
    assert model is not None
    rows = []
    for name, field in model.model_fields.items():
        value = field.default
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        shown = "[]" if value == () else shown
        rows.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(rows)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(
    page: str, repository: Path, wiki: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wiki)
    names: dict[str, object] = {}
    found = blocks(repository / "docs/nn" / page, "python")
    assert len(found) >= 2
    for block in found:
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_every_key_is_described(page: str, repository: Path) -> None:
    text = (repository / "docs/nn" / page).read_text(encoding="utf-8")
    for section in SECTIONS[page]:
        assert key_rows(section) in text


def test_stages_of_the_page_are_settings(repository: Path, tmp_path: Path) -> None:
    (block,) = blocks(repository / "docs/nn/TRAINING_JASPER.md", "yaml")
    path = tmp_path / "stages.yaml"
    path.write_text(block, encoding="utf-8")
    loss = RunConfig(**read_yaml(path)).loss
    assert loss.weights_at(0) == {
        "lambda_jasper": 1.0,
        "lambda_contrastive": 0.0,
        "lambda_centroid": 0.0,
        "lambda_vicreg": 0.0,
    }
    assert loss.weights_at(30)["lambda_vicreg"] == 0.1
