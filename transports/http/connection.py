"""The HTTP door: one connection: uvicorn's HTTP protocol, with limits of what a request takes before it is one.

What is no HTTP, too long in its head or too slow is refused in the shape of all refusals; the connection then ends.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from holon.transports.http.answer import Answer
from holon.transports.http.asgi import Receive, Reply, Scope, Send
from holon.transports.http.connection_limit import ConnectionLimit, Place
from holon.transports.http.hurry import Hurry
from holon.transports.http.refusals import full, head_too_large, malformed, too_slow

MAX_HEAD = 64 * 1024
MAX_HEADERS = 100
MAX_PIPELINE = 100
# How many silences a body may take in all.
BODY_SILENCES = 10
# And one second more for so much of it: files are large.
BODY_BYTES_PER_S = 64 * 1024
# What is around the chunks of a body: so much, and a little with each byte, as chunks may be of one byte.
MAX_FRAMING = MAX_HEAD
_FRAMING_OF_BYTE = 8
_TOO_LONG = head_too_large(f"has over {MAX_HEAD} bytes")
_OLD = "1.0"
_OF_BODY = frozenset({b"content-length", b"transfer-encoding"})
# How long a refused connection is still read from, so that its sender gets to read the refusal.
_LINGER_SECONDS = 1.0
# Who takes less of an answer than this in a whole silence does not read it.
LEAST_TAKEN = 4 * 1024


class _Coming:
    """A body that comes in pieces: how much of it has come, with how much around it, and until when it may."""

    __slots__ = ("cycle", "framing", "size", "until")

    def __init__(self, cycle: RequestResponseCycle, until: float) -> None:
        self.cycle = cycle
        self.until = until
        self.size = self.framing = 0


class _Objection(Exception):
    """Expected: stops the parser at a head that cannot become a request."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Connection(HttpToolsProtocol):
    """One connection of the door.

    Arguments:
        silence: seconds that a request may take to come in, that its body may pause, and that its answer may go unread.
        limit: says whether the door has a place for it; without one it is refused.
        place: the one that it has already; None: it takes one when it is made.
    """

    def __init__(
        self, config: Config, state: ServerState, silence: float, limit: ConnectionLimit, place: Place | None = None
    ) -> None:
        self._hurry = Hurry()
        super().__init__(config, state, {"hurry": self._hurry})
        self._silence = silence
        self._limit = limit
        self._place = place
        self._served: RequestResponseCycle | None = None
        self._half_closed = False
        self._unread = 0
        self._reader: asyncio.TimerHandle | None = None
        self._head = 0
        self._coming: _Coming | None = None
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for its first request, and not for ever."""
        super().connection_made(transport)
        if self._place is None:
            self._place = self._limit.take(transport.get_extra_info("peername"))
        if self._place is None:
            self._ending = True
            transport.write(_text(full(self._limit.most)))
            transport.close()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is waited for, nor answered: neither what is served now, nor what was asked behind it."""
        if self._place is not None:
            self._place.leave()
        self._unwatch()
        self.resume_writing()
        self.pipeline.clear()
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()
        self._hurry.begin()
        super().connection_lost(exc)
        # Where it was reset the wait for its next request is left, and would keep all of it, however many there were.
        self._unset_keepalive_if_required()

    def shutdown(self) -> None:
        """End it: at once where it is idle, else after its answer."""
        # Closed twice, a transport of TLS forgets its connection, which then nothing can end.
        if not self.transport.is_closing():
            super().shutdown()

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""
        # Before Python 3.11.4 a transport of TLS that has lost its connection raises this; it is over then.
        with suppress(AttributeError):
            self.transport.abort()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made: from now on it is seen whether it takes it."""
        super().pause_writing()
        if self._reader is None:
            self._unread = self.transport.get_write_buffer_size()
            self._reader = self.loop.call_later(self._silence, self._unread_still)

    def resume_writing(self) -> None:
        """The client has read on."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        super().resume_writing()

    def _unread_still(self) -> None:
        self._reader = None
        left = self.transport.get_write_buffer_size()
        if self._unread - left < LEAST_TAKEN:
            self.abort()
        else:
            self._unread = left
            self._reader = self.loop.call_later(self._silence, self._unread_still)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._served = cycle
        self._hurry.now = bool(self.pipeline) or self._half_closed
        super()._start_asgi_task(cycle, Answer(app, cycle))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request, or several."""
        if self._ending:
            return
        self._unset_keepalive_if_required()
        before: RequestResponseCycle | None = self.cycle
        had = len(before.body) if before is not None else 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak nothing else: the request is answered as it is, and what follows its head is not HTTP.
            self._ending = True
            self.cycle.keep_alive = False
            if any(name in _OF_BODY for name, _ in self.scope["headers"]):
                self.cycle.more_body = True
                self._refuse(malformed("a request with Upgrade must not have a body; send it without Upgrade"))
                return
        except httptools.HttpParserError as error:
            self._refuse(self._objection(error))
            return
        cycle: RequestResponseCycle | None = self.cycle
        if len(data) + self._head > MAX_HEAD and self._has_large_head():
            self.cycle.more_body = True
            self._refuse(_TOO_LONG)
        elif cycle is not None and cycle.scope is self.scope and not (cycle.more_body or cycle.response_complete):
            # Most pieces are whole requests.
            self._head = 0
            self._unwatch()
        elif not self.transport.is_closing():
            if cycle is not None and cycle.scope is self.scope and cycle.more_body:
                size = len(cycle.body) - (had if cycle is before else 0)
                # In a piece with a head, what is around the body is bounded as that is.
                self._await_body(cycle, size, len(data) - size if cycle is before else 0)
            else:
                self._await_head(len(data))

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes, whatever is under way
        """The client sends no more, and may still read: whole requests get their answers, and then it ends."""
        self._half_closed = True
        self._hurry.begin()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or cycle.disconnected:
            return False
        if not self._ending:
            if cycle.more_body and not self.pipeline:
                return False
            self._refuse(malformed())
        return True

    def on_headers_complete(self) -> None:
        """A head is whole: make a request of it, if it can be one."""
        if len(self.headers) > MAX_HEADERS:
            raise _Objection(head_too_large(f"has over {MAX_HEADERS} headers"))
        if len(self.pipeline) >= MAX_PIPELINE:
            raise _Objection(malformed(f"the connection has over {MAX_PIPELINE} unanswered requests; wait for answers"))
        if self.parser.get_http_version() == _OLD:
            # Who speaks it knows no answer before the answer, and would take that for it.
            self.expect_100_continue = False
        super().on_headers_complete()
        if self.pipeline:
            self._hurry.begin()
        # What the parser finds behind a body are no headers.
        self.headers = []

    def _objection(self, error: httptools.HttpParserError) -> Reply:
        if isinstance(error.__context__, _Objection):
            return error.__context__.reply
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            return malformed(
                "the request does not begin with a method of HTTP/1.1, such as GET; the connection is closed"
            )
        # The parser of addresses gives up at this length.
        return _TOO_LONG if len(getattr(self, "url", b"")) >= MAX_HEAD else malformed()

    def _has_large_head(self) -> bool:
        """Whether the head of the last request is whole, and too large; asked where so much came that it can be."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.response_started:
            return False
        headers = cycle.scope["headers"]
        return len(self.url) + sum(len(name) + len(value) for name, value in headers) > MAX_HEAD

    def _await_body(self, cycle: RequestResponseCycle, size: int, framing: int) -> None:
        self._head = 0
        now = self.loop.time()
        coming = self._coming
        if coming is None or coming.cycle is not cycle:
            coming = self._coming = _Coming(cycle, now + BODY_SILENCES * self._silence)
        coming.size += size
        coming.framing += framing
        if coming.framing > MAX_FRAMING + _FRAMING_OF_BYTE * coming.size:
            self._refuse(malformed("the chunk headers and trailers of the body are larger than the body"))
        elif now > coming.until + coming.size / BODY_BYTES_PER_S:
            allowed = f"{BODY_SILENCES * self._silence:g} s, plus 1 s for each {BODY_BYTES_PER_S // 1024} KiB"
            self._refuse(too_slow(f"the body did not arrive within {allowed}"))
        else:
            self._unwatch()
            self._watch()

    def _await_head(self, size: int) -> None:
        if not self._head:
            self._unwatch()
        self._head += size
        if self._head > MAX_HEAD:
            self._refuse(_TOO_LONG)
        else:
            self._watch()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._silence, self._silent)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent(self) -> None:
        self._timer = None
        cycle: RequestResponseCycle | None = self.cycle
        begun: object | None = self.scope
        has_head = cycle is not None and cycle.scope is begun
        if self.flow.read_paused:
            # It is us who do not read on.
            self._watch()
        elif (cycle is not None and cycle.more_body) if has_head else begun is not None:
            self._refuse(too_slow(f"no more of it arrived within {self._silence:g} s"))
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, reply: Reply) -> None:
        """Answer what cannot become a request, after the answers to the whole ones before it, and end."""
        self._unwatch()
        self._ending = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(reply)
        elif not cycle.more_body:
            # The refusal has no place behind answers that are still made; the connection ends after them.
            cycle.keep_alive = False
        elif self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline[0] = (cycle, partial(_refusing, reply))
        else:
            # Its route waits for a body that will not come.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        self.transport.write(_text(reply))
        # A connection that is closed while bytes come in is reset, and the reset can overtake the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


async def _refusing(reply: Reply, _: Scope, __: Receive, send: Send) -> None:
    """The application of a request that broke off behind others."""
    await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
    await send({"type": "http.response.body", "body": reply.body})


def _text(reply: Reply) -> bytes:
    status = HTTPStatus(reply.status)
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n" + "".join(
        f"{name.decode()}: {value.decode()}\r\n" for name, value in _headers(reply)
    )
    return head.encode() + b"\r\n" + reply.body


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    return [
        (b"date", formatdate(usegmt=True).encode()),
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"connection", b"close"),
        *reply.headers,
    ]
