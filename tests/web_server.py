"""A web server that fails in the ways that web servers do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Served:
    """A file of the server's, and how it is sent.

    Attributes:
        content: Its bytes.
        headers: Sent with it; an ETag makes it resumable.
        ranges: Whether `Range` is honoured.
        statuses: Answers before the file is sent at all, one a request.
        drops: Bytes after which the connection breaks, one a request.
        stalls: Bytes after which nothing more comes until the test ends.
        sends_length: Whether the answer says how long it is.
        answers: Answers instead of all that, given the handler of the request.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    drops: list[int] = field(default_factory=list)
    stalls: int | None = None
    sends_length: bool = True
    answers: Callable[[BaseHTTPRequestHandler], None] | None = None


class Server(ThreadingHTTPServer):
    """Serves `files` below `url`, and remembers the headers of every request in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, Served] = {}
        self.asked: list[dict[str, str]] = []
        self.ends = threading.Event()

    @property
    def ranges(self) -> list[str | None]:
        """The `Range` of every request."""
        return [headers.get("Range") for headers in self.asked]

    def handle_error(self, *args: Any) -> None:
        """A client that is killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({**self.headers, "path": self.path})
        file = self.server.files.get(self.path)
        if file is None or file.statuses:
            self.send_error(404 if file is None else file.statuses.pop(0))
            return
        if file.answers is not None:
            file.answers(self)
            return
        start = self._start(file)
        body = file.content[start:]
        self.send_response(206 if start else 200)
        for name, value in file.headers.items():
            self.send_header(name, value)
        if start:
            size = len(file.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if file.sends_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if file.stalls is not None:
            self.wfile.write(body[: file.stalls])
            self.wfile.flush()
            self.server.ends.wait(20)
            return
        self.wfile.write(body[: file.drops.pop(0)] if file.drops else body)

    def _start(self, file: Served) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked is None or not file.ranges or condition not in (None, *file.headers.values()):
            return 0
        return int(asked[1])

    def log_message(self, *args: Any) -> None:
        """The test's output is not the place."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server on this machine."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.ends.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def serve(server: Server) -> Any:
    """Put a file on the server: `serve(path, content, **how)`, see `Served`."""

    def put(path: str, content: bytes, **how: Any) -> Served:
        server.files[path] = Served(content, **how)
        return server.files[path]

    return put
