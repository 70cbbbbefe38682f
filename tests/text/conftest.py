from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class FileServer:
    """A web server that can resume, refuse and break off."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"v1"'
    last_modified: str = ""
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes to send before breaking off, one per request
    statuses: list[int] = field(default_factory=list)  # answers to give first
    headers: dict[str, str] = field(default_factory=dict)  # instead of the right ones
    requests: list[dict[str, str]] = field(default_factory=list)


def handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            server.requests.append({"path": self.path, **dict(self.headers.items())})
            content = server.files.get(self.path)
            status = server.statuses.pop(0) if server.statuses else (200 if content is not None else 404)
            if status != 200 or content is None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            asked = self.headers.get("Range", "")
            if server.ranges and asked and self.headers.get("If-Range") in (server.etag, server.last_modified):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            headers = {"ETag": server.etag, "Last-Modified": server.last_modified}
            if server.length:
                headers["Content-Length"] = str(len(body))
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            for name, value in (headers | server.headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else len(body)
            with contextlib.suppress(ConnectionError):  # the client may have hung up
                self.wfile.write(body[:cut])
            self.close_connection = True

    return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A server on this machine, on a port of its own."""
    state = FileServer()
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.url = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    web.shutdown()
    web.server_close()
    thread.join()
