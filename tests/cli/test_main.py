from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.cli import console
from jasper_rag.errors import InputError

Command = Callable[..., Any]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], list[str]]:
    """Arguments of a command that ends in the given exception."""
    (tmp_path / "metrics.json").write_text(
        '{"dataset": "", "questions": 1, "split": "test", "systems": {}, "verdict": ""}'
    )

    def arguments(error: BaseException) -> list[str]:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(console, "put_comparison", fail)
        return ["evaluate", "--run", str(tmp_path)]

    return arguments


@pytest.mark.slow
def test_every_verb_is_offered(jasper: Command) -> None:
    for flag in ("--help", "-h"):
        outcome = jasper(flag)
        assert (outcome.code, outcome.err) == (0, "")
        for part in ("fit", "train", "search", "evaluate", "demo", "Exit codes: 0 done, 1 failed, 2 bad input"):
            assert part in " ".join(outcome.out.split())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fit", "search", "evaluate", "demo"])
def test_help_teaches(jasper: Command, verb: str) -> None:
    outcome = jasper(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: jasper {verb} ")
    options = [line.split()[0] for line in outcome.out.splitlines() if line.strip().startswith("-")]
    assert "--offline" in outcome.out
    assert len(options) >= 5
    assert max(map(len, outcome.out.splitlines())) <= 110


@pytest.mark.slow
def test_no_verb_shows_the_help(jasper: Command) -> None:
    outcome = jasper()
    assert outcome.code == 2
    assert "Usage: jasper" in outcome.out + outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"), [(["serch"], "No such command 'serch'"), (["--fast"], "No such option")]
)
def test_mistyped_commands(jasper: Command, arguments: list[str], message: str) -> None:
    outcome = jasper(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("wrong.", path="f.tsv", line=3, remedy="Mend it."), 2, "jasper: f.tsv:3: wrong.\n  Mend it.\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "jasper: /x: Permission denied\n"),
        (OSError("no number"), 1, "jasper: no number\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_what_becomes_of_errors(
    jasper: Command, failing: Callable[[BaseException], list[str]], error: BaseException, code: int, message: str
) -> None:
    outcome = jasper(*failing(error))
    assert (outcome.code, outcome.out, outcome.err) == (code, "", message)


@pytest.mark.slow
def test_an_interrupt_says_that_work_is_kept(jasper: Command, failing: Callable[[BaseException], list[str]]) -> None:
    outcome = jasper(*failing(KeyboardInterrupt()))
    assert outcome.code == 130
    assert "jasper: interrupted; finished work is kept" in outcome.err


@pytest.mark.slow
def test_an_error_of_ours_is_not_hidden(jasper: Command, failing: Callable[[BaseException], list[str]]) -> None:
    with pytest.raises(ZeroDivisionError):
        jasper(*failing(ZeroDivisionError()))
