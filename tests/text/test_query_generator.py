"""A chat server on this machine writes the queries."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.query_generator import ChatGenerator


def answer(content: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}]})


@dataclass
class ChatServer:
    """What it answers, in turn (the last one again and again), and what it was asked."""

    answers: list[tuple[int, str]] = field(default_factory=lambda: [(200, answer("What is it?"))])
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("JASPER_GENERATOR_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, self.headers.get("Authorization", ""), body))
            status, text = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{web.server_address[1]}"
    yield state
    web.shutdown()
    web.server_close()
    thread.join()


def test_a_question_for_a_document(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.answers = [(200, answer('\n "What is copper?"\nmore')), (200, answer(None))]
    generate = ChatGenerator(chat.url, "small")
    assert generate("Copper is a metal.") == "What is copper?"
    monkeypatch.setenv("JASPER_GENERATOR_KEY", "k1")
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    assert generate("x") == ""
    (path, key, body), (_, second, _) = chat.asked
    assert (path, key, second) == ("/v1/chat/completions", "", "Bearer k1")
    assert body["model"] == "small"
    assert body["messages"][0]["content"].endswith("\n\nCopper is a metal.")


@pytest.mark.parametrize("ending", ["/", "/v1", "/v1/chat/completions"])
def test_any_form_of_the_address(ending: str) -> None:
    assert ChatGenerator(f"http://host:1{ending}").url == "http://host:1/v1/chat/completions"


def test_a_busy_server_is_asked_again(chat: ChatServer) -> None:
    chat.answers = [(503, ""), (429, ""), (200, answer("Why?"))]
    assert ChatGenerator(chat.url, pause=0)("x") == "Why?"
    assert len(chat.asked) == 3


@pytest.mark.parametrize(
    ("reply", "said", "asked"),
    [
        ((503, ""), "it answered 503 .*, 2 times", 2),
        ((401, ""), "it answered 401", 1),
        ((200, "hello"), "did not answer with JSON", 1),
        ((200, "{}"), "no choices", 1),
    ],
)
def test_a_server_that_is_of_no_use(chat: ChatServer, reply: tuple[int, str], said: str, asked: int) -> None:
    chat.answers = [reply]
    with pytest.raises(InputError, match=said) as caught:
        ChatGenerator(chat.url, pause=0, tries=2)("x")
    assert "JASPER_GENERATOR_KEY" in str(caught.value)
    assert len(chat.asked) == asked


def test_no_server() -> None:
    with pytest.raises(InputError, match=r"cannot be reached .*, 2 times"):
        ChatGenerator("http://127.0.0.1:1", pause=0, tries=2, timeout=1)("x")
    with pytest.raises(InputError, match="no http or https address"):
        ChatGenerator("localhost:8000")
