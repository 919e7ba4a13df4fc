"""A server of files on a loopback port, that does what tests want: fails, leads elsewhere, breaks off, says nothing."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

# What is done with one request, in the place of what the server does.
Odd: TypeAlias = Callable[["Handler"], None]
GUARD = 60.0


class FileServer(ThreadingHTTPServer):
    """Keeps what is put, and gives it back.

    Attributes:
        files: what it has, by path.
        odd: what is done with the next requests, one after the other.
        asked: the method and path of every request, with its query.
        reached: released once for every request that has begun.
    """

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self.files: dict[str, bytes] = {}
        self.odd: list[Odd] = []
        self.asked: list[str] = []
        self.reached = threading.Semaphore(0)
        self.over = threading.Event()

    def url(self, path: str, query: str = "X-Signature=secret") -> str:
        return f"{self._scheme}://localhost:{self.server_port}{path}?{query}"

    def hang(self, handler: Handler) -> None:
        """Say nothing until the end of the test."""
        assert self.over.wait(GUARD)
        handler.close_connection = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away: that is what is tried."""


class Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        odd = self.server.odd.pop(0) if self.server.odd else None
        self.server.reached.release()
        if odd is not None:
            odd(self)
            return
        path = self.path.partition("?")[0]
        if self.command == "PUT":
            self.server.files[path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200)
        elif path in self.server.files:
            self.answer(200, self.server.files[path])
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_GET = do_PUT = handle_one  # noqa: N815  the names that it is called by

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is called
        """Say nothing."""


def answering(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> Odd:
    def answer(handler: Handler) -> None:
        handler.answer(status, body, length, **headers)
        handler.close_connection = True

    return answer


def dropping(handler: Handler) -> None:
    """End without a word."""
    handler.close_connection = True


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    server = FileServer(tls)
    running = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    running.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        running.join()
