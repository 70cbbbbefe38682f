from __future__ import annotations

import io
import sys

import pytest

from jasper_rag.progress import progress_bar, quiet


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(2, "counting", "texts") as bar:
        bar.update(1)
        bar.refresh()
    return stream.getvalue()


def test_a_terminal_sees_the_bar_and_a_file_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = shown(monkeypatch, Terminal())
    assert "counting" in drawn
    assert "1/2" in drawn
    assert shown(monkeypatch, io.StringIO()) == ""


def test_quiet_draws_nothing_and_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet():
        assert shown(monkeypatch, Terminal()) == ""
        with quiet(enabled=False):
            assert shown(monkeypatch, Terminal()) != ""
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert shown(monkeypatch, Terminal()) != ""
