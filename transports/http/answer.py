"""The HTTP door: an answer as it goes out: its head with the first of its body, in one write.

uvicorn writes the head for itself, and checks each header of it. Ours are made here, and a write is a call of the
system, which costs more than all else of an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from holon.transports.http.asgi import Application, Message, Receive, Scope

_CLOSE = b"connection: close\r\n"


class Answer:
    """Stands for an application, and lets it answer one request of a connection.

    Arguments:
        app: it sends every answer with its `content-length`, and with `connection` only to say `close`.
        cycle: the request, as uvicorn knows it.
    """

    __slots__ = ("_app", "_cycle", "_head")

    def __init__(self, app: Application, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._head = b""

    def __call__(self, scope: Scope, receive: Receive, _: object) -> Awaitable[None]:
        """Have the application serve the request, when that is awaited."""
        return self._app(scope, receive, self._send)

    async def _send(self, message: Message) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if not cycle.response_started:
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            self._head = self._head_of(message)
            return
        body: bytes = b"" if cycle.scope["method"] == "HEAD" else message["body"]
        cycle.transport.write(self._head + body if self._head else body)
        self._head = b""
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                cycle.transport.close()
            cycle.on_response()

    def _head_of(self, message: Message) -> bytes:
        cycle = self._cycle
        lines: list[bytes] = [STATUS_LINE[message["status"]]]
        for name, value in message["headers"]:
            if name == b"connection":
                cycle.keep_alive = False
            else:
                lines += (name, b": ", value, b"\r\n")
        lines += (b"\r\n",) if cycle.keep_alive else (_CLOSE, b"\r\n")
        return b"".join(lines)
