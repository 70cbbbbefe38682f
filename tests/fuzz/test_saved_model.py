"""A saved model, damaged: every file of it is noticed, and no forgery is more than an error."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.serving.saved_model import DESCRIPTION, read_model, write_model

Files = dict[str, bytes]
OTHER_VALUES = [None, True, -1, 0, 7, 1e300, float("nan"), "", "word", [], [None], {}, {"a": [1]}]


@pytest.fixture(scope="module")
def pristine(fitted: Jasper, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    write_model(fitted.model, folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def placed(tmp_path: Path) -> Callable[[Files], contextlib.AbstractContextManager[Path]]:
    """A folder with these files for as long as it is needed, each time another: checksums are remembered by path."""
    count = 0

    @contextlib.contextmanager
    def place(files: Files) -> Iterator[Path]:
        nonlocal count
        count += 1
        for name, content in files.items():
            path = tmp_path / f"model{count}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield tmp_path / f"model{count}"
        shutil.rmtree(tmp_path / f"model{count}")

    return place


def says_the_same(files: Files, pristine: Files) -> bool:
    """All bytes are as they were, or jasper.json differs in white space only."""
    if {**files, DESCRIPTION: b""} != {**pristine, DESCRIPTION: b""}:
        return False
    with contextlib.suppress(ValueError, RecursionError):
        return bool(json.loads(files[DESCRIPTION]) == json.loads(pristine[DESCRIPTION]))
    return False


def require_noticed(folder: Path, names: set[str]) -> None:
    """Reading is refused; the message names one of these files and says what to do."""
    with pytest.raises(InputError) as caught:
        read_model(folder)
    assert any(str(folder / name) in str(caught.value) for name in names), caught.value
    assert "jasper fit" in caught.value.remedy or "do not use it" in caught.value.remedy


@pytest.mark.slow
def test_damage_at_every_kind_of_place_is_noticed(pristine: Files, placed: Callable[..., Any]) -> None:
    for name, raw in pristine.items():
        changed = [raw[: int(len(raw) * part)] for part in (0, 0.01, 0.25, 0.5, 0.99)]
        changed += [raw[:1], raw[:8], raw[:-2], raw + b"x", raw[1:], raw * 2, b"\0" * len(raw)]
        for at in (0, 5, 9, len(raw) // 2, len(raw) - 2):
            changed.append(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        changed += [other for file, other in pristine.items() if file != name]
        for content in changed:
            with placed(pristine | {name: content}) as folder:
                require_noticed(folder, {name})
        with placed({file: content for file, content in pristine.items() if file != name}) as folder:
            # Without its description a folder is no model at all, and the folder is named.
            require_noticed(folder, {name} if name != DESCRIPTION else {""})


@pytest.mark.slow
@pytest.mark.parametrize("examples", [6, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_damage_is_noticed(
    examples: int,
    pristine: Files,
    damage: SearchStrategy[Callable[[bytes], bytes]],
    explore: Callable[..., None],
    placed: Callable[..., Any],
) -> None:
    def check(changes: list[tuple[str, Callable[[bytes], bytes]]]) -> None:
        files = dict(pristine)
        for name, change in changes:
            files[name] = change(files[name])
        with placed(files) as folder:
            if says_the_same(files, pristine):
                read_model(folder)
            else:
                require_noticed(folder, {name for name, _ in changes} | {DESCRIPTION})

    explore(st.lists(st.tuples(st.sampled_from(sorted(pristine)), damage), min_size=1, max_size=2), check, examples)


def forged(description: dict[str, Any], files: Files) -> Files:
    """The files with checksums that fit, as someone makes them who knows how."""
    content = {key: value for key, value in description.items() if key != "content_sha256"}
    if isinstance(content.get("sha256"), dict):
        content["sha256"] = {
            name: hashlib.sha256(files[name]).hexdigest() if name in files else digest
            for name, digest in content["sha256"].items()
        }
    content["content_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return files | {DESCRIPTION: json.dumps(content).encode()}


@pytest.mark.slow
@pytest.mark.parametrize("examples", [6, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_forgery_is_read_or_refused_and_never_a_traceback(
    examples: int,
    pristine: Files,
    damage: SearchStrategy[Callable[[bytes], bytes]],
    explore: Callable[..., None],
    placed: Callable[..., Any],
) -> None:
    def check(data: st.DataObject) -> None:
        chance = random.Random(data.draw(st.integers(0, 9_999)))
        description, files = json.loads(pristine[DESCRIPTION]), dict(pristine)
        if chance.random() < 0.5:
            inner = chance.choice([description, *(value for value in description.values() if isinstance(value, dict))])
            key = chance.choice(sorted(inner))
            if chance.random() < 0.3:
                del inner[key]
            else:
                inner[key] = chance.choice(OTHER_VALUES)
        else:
            name = chance.choice(sorted(files.keys() - {DESCRIPTION}))
            files[name] = data.draw(damage)(files[name])
        with placed(forged(description, files)) as folder, contextlib.suppress(InputError):
            model = read_model(folder)
            assert len(model.documents) == len(model.vectors)

    explore(st.data(), check, examples)
