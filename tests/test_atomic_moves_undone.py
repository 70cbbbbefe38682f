"""Moves that fail half way, in a process that goes on."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from jasper_rag import atomic_moves
from jasper_rag.atomic_files import replacing_directory, replacing_entries, write_text


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def count_renames(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Let the `failing`th rename fail, on a system that cannot swap names."""
    renames = itertools.count(1)
    renamed = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if next(renames) == failing:
            raise OSError(errno.EIO, "broken")
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(atomic_moves, "exchange", lambda one, other: False)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_move_that_breaks_off_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    folder = tmp_path / "folder"
    write_text(folder / "old.txt", "old")
    count_renames(monkeypatch, failing + 1)  # the first gives the journal its name
    with pytest.raises(OSError, match="broken"), replacing_directory(folder) as temporary:
        write_text(temporary / "new.txt", "new")
    assert names(folder) == ["old.txt"]
    assert names(tmp_path) == ["folder"]


def test_a_failure_after_the_swap_is_undone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    write_text(folder / "old.txt", "old")
    synced = atomic_moves.sync

    def sync(path: Path) -> None:
        if path == tmp_path:
            raise OSError(errno.EIO, "broken")
        synced(path)

    with replacing_directory(folder) as temporary:
        write_text(temporary / "old.txt", "new")
    assert (folder / "old.txt").read_text() == "new"
    monkeypatch.setattr(atomic_moves, "sync", sync)
    with pytest.raises(OSError, match="broken"), replacing_directory(folder) as temporary:
        (temporary / "newer.txt").write_text("newer")
    assert names(folder) == ["old.txt"]
    assert names(tmp_path) == ["folder"]


def test_swapped_entries_are_swapped_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a" / "old.txt", "old")
    write_text(tmp_path / "b" / "old.txt", "old")
    renamed = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if target.name == "b" and target.parent.name == "aside":
            raise OSError(errno.EIO, "broken")
        return renamed(path, target)

    entries = replacing_entries(tmp_path)
    fresh = entries.__enter__()
    for name in ("a", "b", "c"):
        write_text(fresh / name / "new.txt", "new")
    monkeypatch.setattr(Path, "rename", rename)
    if atomic_moves.exchange(fresh / "a", fresh / "b"):  # elsewhere nothing is swapped
        with pytest.raises(OSError, match="broken"):
            entries.__exit__(None, None, None)
        assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.txt"))] == [
            "a/old.txt",
            "b/old.txt",
        ]
        assert names(tmp_path) == ["a", "b"]


def test_entries_take_the_place_of_their_namesakes_only(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for name in ("kept.txt", "one.txt", "model/old.txt"):
        write_text(folder / name, "old")
    with replacing_entries(folder) as fresh:
        assert names(fresh) == []
        write_text(fresh / "one.txt", "new")
        write_text(fresh / "model" / "new.txt", "new")
        write_text(fresh / "two.txt", "new")
        assert (folder / "one.txt").read_text() == "old"
    assert names(folder) == ["kept.txt", "model", "one.txt", "two.txt"]
    assert names(folder / "model") == ["new.txt"]
    assert ((folder / "kept.txt").read_text(), (folder / "one.txt").read_text()) == ("old", "new")


@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5, 6])
def test_entries_move_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    folder = tmp_path / "run"
    write_text(folder / "a.txt", "old")
    write_text(folder / "c.txt", "old")
    entries = replacing_entries(folder)
    fresh = entries.__enter__()
    for name in ("a.txt", "b.txt", "c.txt"):
        write_text(fresh / name, "new")
    count_renames(monkeypatch, failing)  # the journal, a aside, a up, b up, c aside, c up
    with pytest.raises(OSError, match="broken"):
        entries.__exit__(None, None, None)
    assert names(folder) == ["a.txt", "c.txt"]
    assert (folder / "a.txt").read_text() == (folder / "c.txt").read_text() == "old"
