from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest

from jasper_rag.cli import console
from jasper_rag.jasper import SearchHit
from jasper_rag.progress import progress_bar
from jasper_rag.text.records import Document

LOGGER = logging.getLogger("jasper_rag.somewhere")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def metrics(**systems: dict[str, float | None]) -> dict[str, Any]:
    return {"dataset": "set", "split": "test", "questions": 1_234, "systems": systems, "verdict": "It is [better]."}


def row(ndcg: float, **others: float | None) -> dict[str, float | None]:
    figures = {"ndcg@10": ndcg, "ndcg@10_low": ndcg - 0.1, "ndcg@10_high": ndcg + 0.1, "recall@10": 0.5, "mrr@10": 0.25}
    return {**figures, "train_seconds": 0.0, "p_value": None, **others}


def test_talk_is_on_stderr_and_stops_with_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with console.talking(False):
        LOGGER.info("%d texts", 3)
        LOGGER.debug("details")
    LOGGER.info("after")
    console.say("a line")
    assert capsys.readouterr() == ("", "3 texts\na line\n")


def test_quiet_leaves_warnings_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with console.talking(True):
        LOGGER.info("3 texts")
        LOGGER.warning("a split is small")
    console.say("a line", quiet=True)
    assert capsys.readouterr() == ("", "a split is small\n")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.talking(True), progress_bar(3, "encoding") as bar:
        bar.update(3)
    assert terminal.getvalue() == ""
    with console.talking(False), progress_bar(3, "encoding") as bar:
        bar.update(3)
    assert "encoding" in terminal.getvalue()


def test_the_logger_is_left_as_it_was_after_an_error() -> None:
    logger = logging.getLogger("jasper_rag")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(KeyError), console.talking(False):
        raise KeyError
    assert (logger.level, logger.handlers) == before


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    console.put_comparison(metrics(plain=row(0.5), jasper=row(0.75, p_value=0.00012, train_seconds=1.26)))
    title, head, plain, jasper, blank, verdict = capsys.readouterr().out.splitlines()
    assert title.strip() == "set, test split: 1,234 questions"
    assert " ".join(head.split()) == "system nDCG@10 95 % interval R@10 MRR@10 p vs plain train s"
    assert plain.split()[-4:] == ["0.500", "0.400-0.600", "0.500", "0.250"]
    assert jasper.split()[-6:] == ["0.750", "0.650-0.850", "0.500", "0.250", "0.0001", "1.3"]
    assert (blank, verdict) == ("", "It is [better].")


def test_the_table_is_not_folded_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    console.put_comparison(metrics(plain=row(0.5), hybrid=row(0.6, p_value=0.5)) | {"verdict": "long " * 60})
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_the_best_row_stands_out_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.put_comparison(metrics(plain=row(0.5), jasper=row(0.75)))
    lines = terminal.getvalue().splitlines()
    bold = [line for line in lines if "\x1b[1m" in line and "0.750" in line]
    assert len(bold) == 1
    assert not any("\x1b[1m" in line and "0.500" in line and "0.750" not in line for line in lines)


def test_names_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    values = metrics(plain=row(0.5)) | {"dataset": "data[/red] :smile: [bold]x"}
    console.put_comparison(values)
    assert "data[/red] :smile: [bold]x, test split" in capsys.readouterr().out


def test_figures_that_were_not_measured_stay_empty(capsys: pytest.CaptureFixture[str]) -> None:
    console.put_comparison(metrics(plain={"ndcg@10": 0.5}, mine={"ndcg@10": 0.4, "p_value": None}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[-1] == "0.500"
    assert lines[3].split() == ["mine", "0.400"]


def test_hits(capsys: pytest.CaptureFixture[str]) -> None:
    hits = [
        SearchHit(1, 12.3456, Document("a", "one\n  two\tthree", "The title")),
        SearchHit(2, 1.0, Document("same", "word " * 100, "same")),
        SearchHit(10, -0.5, Document("c", "")),
    ]
    console.put_hits(hits)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["  1   12.346  a  The title", "one two three", ""]
    assert lines[3] == "  2    1.000  same"
    assert len(lines[4]) <= 160
    assert lines[4].endswith("word ...")
    assert lines[5:] == ["", " 10   -0.500  c"]


def test_json_keeps_every_script(capsys: pytest.CaptureFixture[str]) -> None:
    hits = console.hits_as_json([SearchHit(1, 0.5, Document("ü", "文", "é"))])
    console.put_json(hits)
    out = capsys.readouterr().out
    assert "文" in out
    assert json.loads(out) == [{"rank": 1, "score": 0.5, "id": "ü", "title": "é", "text": "文"}]
