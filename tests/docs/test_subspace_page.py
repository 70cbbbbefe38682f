from __future__ import annotations

import re
from pathlib import Path

import pytest

from jasper_rag.training.subspace_config import SubspaceRunConfig
from jasper_rag.yaml_files import read_yaml

PAGE = "docs/nn/SUBSPACE_JASPER.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def key_rows(section: str) -> str:
    """The table of a section as it must stand on the page."""
    model = SubspaceRunConfig.model_fields[section].annotation
    assert model is not None
    rows = []
    for name, field in model.model_fields.items():
        value = field.default
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        rows.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(rows)


@pytest.mark.slow
def test_code_blocks_run(
    repository: Path, wiki: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wiki)
    names: dict[str, object] = {}
    found = blocks(repository / PAGE, "python")
    assert len(found) == 3
    for block in found:
        exec(compile(block, PAGE, "exec"), names)
    assert "true_topic" in capsys.readouterr().out


@pytest.mark.parametrize("section", ["router", "routing_loss", "xai"])
def test_every_key_is_described(repository: Path, section: str) -> None:
    assert key_rows(section) in (repository / PAGE).read_text(encoding="utf-8")


def test_the_two_stages_are_settings(repository: Path, tmp_path: Path) -> None:
    (block,) = blocks(repository / PAGE, "yaml")
    path = tmp_path / "stages.yaml"
    path.write_text(block, encoding="utf-8")
    router = SubspaceRunConfig(**read_yaml(path)).router
    assert (router.anchor_epochs, router.freeze_router) == (3, True)
