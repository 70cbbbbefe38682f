from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from jasper_rag.cli.columns import Columns, parse_columns
from jasper_rag.errors import InputError
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.readers.pairs import DEFAULT_COLUMNS
from jasper_rag.text.records import Document, Query

GERMAN = {"query": "Frage", "document": "Antwort", "id": "Nr"}


@pytest.mark.parametrize(
    "values",
    [
        ["question=Frage,answer=Antwort,id=Nr"],
        ["question=Frage", "answer=Antwort", "id=Nr"],
        [" Query = Frage , positive=Antwort,", "_id=Nr"],
    ],
)
def test_commas_and_repetition_mean_the_same(values: list[str]) -> None:
    assert parse_columns(values) == GERMAN


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, {}),
        ([], {}),
        (['"question=Frage, kurz",title=A=B'], {"query": "Frage, kurz", "title": "A=B"}),
        (["query-id=x,topic=x"], {"query_id": "x", "topic": "x"}),
        (["split=Teil"], {"split": "Teil"}),
    ],
)
def test_unusual_names(values: list[str] | None, expected: dict[str, str]) -> None:
    assert parse_columns(values) == expected


@pytest.mark.parametrize(
    ("values", "problem", "remedy"),
    [
        (["Frage"], "'Frage' lacks '='", "question=Frage"),
        (["question="], "lacks a column", "FIELD=COLUMN"),
        (["=Frage"], "lacks a field", "FIELD=COLUMN"),
        ([""], "no column is named", "FIELD=COLUMN"),
        ([" , "], "no column is named", "FIELD=COLUMN"),
        (['"question=Frage'], "bad quotes", "FIELD=COLUMN"),
        (["question=a\nb=c"], "bad quotes", "FIELD=COLUMN"),
        (["anwser=Antwort"], "unknown field 'anwser'", "Did you mean 'answer'?"),
        (["xyz=Antwort"], "unknown field 'xyz'", "query or question or anchor; document or positive"),
        (["Frage=question"], "unknown field 'Frage'", "The field comes first: question=Frage."),
        (["question=a", "query=b"], "the query is given twice: the columns 'a' and 'b'", "query, question, anchor"),
        (["question=a,answer=a"], "'a' is given as the question and as the answer", "two columns"),
    ],
)
def test_what_cannot_be_understood(values: list[str], problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_columns(values)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert caught.value.field == "columns"


def test_the_option(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("Nr,Frage,Antwort\n7,Wer?,Ich\n", encoding="utf-8")
    app = typer.Typer()
    seen = []

    @app.command()
    def read(data: Path, columns: Columns = None) -> None:
        seen.append(read_retrieval_set(data, columns=parse_columns(columns)))

    arguments = [str(tmp_path / "faq.csv"), "--columns", "question=Frage,answer=Antwort", "--columns=id=Nr"]
    outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    (found,) = seen
    assert found.documents == (Document("7", "Ich"),)
    assert found.queries == (Query("q0", "Wer?"),)


def test_the_help_names_every_field() -> None:
    (option,) = (part for part in get_args(Columns) if hasattr(part, "help"))
    named = option.help.partition("Fields: ")[2].partition(".")[0].split(", ")
    assert sorted(named) == sorted({*DEFAULT_COLUMNS, "question", "answer"} - {"query", "document"})
