"""The worker SDK: connections that whoever waits for them can be told of, so that another thread can end them."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any, Protocol
from urllib.request import HTTPHandler, HTTPSHandler, Request

_BLOCK_BYTES = 2**18


class Watching(Protocol):
    """Is told of each connection once it is there; raises to have it ended."""

    def connected(self, connected: socket.socket, /) -> None: ...


class _Plain(HTTPConnection):
    def __init__(self, watching: Watching, host: str, **options: Any) -> None:
        super().__init__(host, blocksize=_BLOCK_BYTES, **options)
        self._watching = watching

    def connect(self) -> None:
        super().connect()
        self._watching.connected(self.sock)

    def request(self, *arguments: Any, **options: Any) -> None:
        try:
            super().request(*arguments, **options)
        except (BrokenPipeError, ConnectionResetError):
            # Who does not want the rest has mostly said why.
            if self.sock is None:
                raise


class _Secured(_Plain, HTTPSConnection):
    pass


class OverHttp(HTTPHandler):
    """Opens what is not encrypted."""

    def __init__(self, watching: Watching) -> None:
        super().__init__()
        self._watching = watching

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_Plain, self._watching), req)


class OverHttps(HTTPSHandler):
    """Opens what is encrypted."""

    def __init__(self, watching: Watching, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._watching = watching
        self._tls = context

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_Secured, self._watching), req, context=self._tls)
