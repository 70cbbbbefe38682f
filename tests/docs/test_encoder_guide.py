"""The pages about Gaussian encoders: every command parses, every flag and key is described as it is."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jasper_rag.text.records import RetrievalSet

VERBS = {
    "scripts/prepare_data.py": ("jasper_rag.cli.prepare", "prepare"),
    "scripts/train.py": ("jasper_rag.cli.train_encoder", "train_encoder"),
    "scripts/evaluate.py": ("jasper_rag.cli.evaluate_encoder", "evaluate_encoder"),
    "scripts/download_msmarco.py": ("jasper_rag.cli.msmarco", "msmarco"),
    "jasper fit": ("jasper_rag.cli.fit", "fit"),
    "jasper search": ("jasper_rag.cli.search", "search"),
}
LEAST = {"TRAINING_GUIDE.md": 12, "BRIDGE.md": 5}
"""Pages, and how many commands of ours stand on them."""
_BY_ITSELF = re.compile(r" ?\[default: (.*)\]$")


def command(program: str) -> Any:
    """The click command of a program."""
    app = typer.Typer(
        add_completion=False, context_settings={"token_normalize_func": lambda token: token.replace("_", "-")}
    )
    module, verb = VERBS[program]
    app.command()(getattr(importlib.import_module(module), verb))
    return typer.main.get_command(app)


def flag_rows(program: str) -> str:
    """The table of a program's flags as it must stand in the guide."""
    rows = []
    for flag in command(program).params:
        if flag.name in ("help", "as_json", "quiet", "offline"):
            continue
        name = flag.opts[0].removeprefix("--").replace("-", "_")
        said = _BY_ITSELF.search(flag.help)
        shown = flag.default
        if said is not None:
            shown = said[1]
        elif flag.required:
            shown = "must be given"
        elif shown is None:
            shown = "none"
        elif isinstance(shown, bool):
            shown = "on" if shown else "off"
        rows.append(f"| `--{name}` | {shown} | {_BY_ITSELF.sub('', flag.help)} |")
    return "\n".join(rows)


def page(repository: Path, name: str) -> str:
    return (repository / "docs/encoder" / name).read_text(encoding="utf-8")


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in the shell blocks of a page."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


@pytest.mark.parametrize("program", [each for each in VERBS if each.startswith("scripts/")])
def test_every_flag_is_described(program: str, repository: Path) -> None:
    assert flag_rows(program) in page(repository, "TRAINING_GUIDE.md")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_commands_parse(name: str, repository: Path) -> None:
    known = 0
    for words in commands(page(repository, name)):
        program = " ".join(words[:2]) if words[0] == "jasper" else next((each for each in words if each in VERBS), "")
        if program:
            start = 2 if words[0] == "jasper" else words.index(program) + 1
            command(program).make_context(program, words[start:])
            known += 1
    assert known >= LEAST[name]


def test_every_saved_setting_is_a_flag_or_said_to_be_none(repository: Path) -> None:
    from jasper_rag.training.encoder_config import EncoderTrainingConfig

    text = page(repository, "TRAINING_GUIDE.md")
    for name in EncoderTrainingConfig.model_fields:
        assert f"`--{name}`" in text or f"`--no_{name}`" in text or f"`{name}`" in text, name


def test_a_set_becomes_pairs(
    repository: Path, synonym_set: RetrievalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jasper_rag.text.pair_files import read_examples

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/squadshifts_wiki"
    (folder / "qrels").mkdir(parents=True)
    texts = {
        "corpus": [(document.id, document.text) for document in synonym_set.documents],
        "queries": [(query.id, query.text) for query in synonym_set.queries],
    }
    for name, found in texts.items():
        rows = [json.dumps({"_id": number, "text": text}) for number, text in found]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    judged = [(query, document) for query, found in synonym_set.qrels["all"].items() for document in found]
    for split, kept in (("train", judged[:90]), ("dev", judged[90:120]), ("test", judged[120:])):
        lines = [f"{query}\t{document}\t1" for query, document in kept]
        (folder / f"qrels/{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    (block,) = re.findall(r"^```python\n(.*?)^```", page(repository, "BRIDGE.md"), re.DOTALL | re.MULTILINE)
    exec(compile(block, "BRIDGE.md", "exec"), {})
    assert [len(read_examples(f"data/wiki/{name}")) for name in ("train.json", "val.json")] == [90, 30]


def test_geometry_is_described(repository: Path) -> None:
    from jasper_rag.cli.evaluate_encoder import _GEOMETRY

    text = page(repository, "ISOTROPY.md")
    assert all(f"`{name}`" in text for name in _GEOMETRY)
