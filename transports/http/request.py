"""The HTTP door: one request as it comes in, with the limits of what is read of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from urllib.parse import parse_qsl, unquote_to_bytes

from holon.domain.client import Client
from holon.domain.trace import trace_of
from holon.errors import InvalidArgument, TooLarge, Unauthenticated, Violation
from holon.security.clients import Credential
from holon.telemetry.audit import By, Left
from holon.transports.http.asgi import Receive, Scope
from holon.transports.http.compression import Accepted, accepted
from holon.transports.http.waiting import Waiting
from holon.wire.arrivals import Arrivals

_MAX_PARAMETERS = 100
# How long, and how far over the limit, a refused body is still taken in, so that its sender gets to read the refusal.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 2**20
_NO_UTF8 = "is not UTF-8; encode names as UTF-8, then percent-encode them"


# Nothing is anybody's under this name: no client can have it.
NOBODY = Client("")


class Disconnected(Left):
    """Expected: the client went away in the middle of its request."""


class Request:
    """A request whose headers have come in; its body is read when asked for.

    Arguments:
        max_body: the most bytes that its body may have.
        arrivals: where a body takes a place that does not come at once.
    Attributes:
        client: who makes it, once that is known.
        credential: what that was known by; None where nobody is asked.
        named: what stands in its path for the variable of its route, such as a job's id; empty where there is none.
        rest: what stands for the second one, and is all that is left of the path.
        unread: whether something of its body may still come in.
    """

    __slots__ = (
        "_accepts",
        "_arrivals",
        "_authorizations",
        "_coding",
        "_codings",
        "_encoding",
        "_hosts",
        "_keys",
        "_length",
        "_max_body",
        "_peer",
        "_query",
        "_receive",
        "_scope",
        "_tokens",
        "_traceparent",
        "_tracestate",
        "_version",
        "client",
        "credential",
        "method",
        "named",
        "path",
        "rest",
        "unread",
    )

    def __init__(self, scope: Scope, receive: Receive, max_body: int, arrivals: Arrivals) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.client = NOBODY
        self.credential: Credential | None = None
        self._scope = scope
        self.named = self.rest = ""
        self._peer: tuple[str, int] | None = scope.get("client")
        self.unread = False
        self._query: bytes = scope["query_string"]
        self._version: str = scope["http_version"]
        self._receive = receive
        self._max_body = max_body
        self._arrivals = arrivals
        self._tokens: list[bytes] = []
        self._keys: list[bytes] = []
        self._accepts: list[bytes] = []
        self._traceparent = self._tracestate = self._coding = self._encoding = b""
        self._hosts = self._authorizations = self._length = self._codings = 0
        for name, value in scope["headers"]:
            if name == b"host":
                self._hosts += 1
            elif name == b"x-client-token":
                self._tokens.append(value)
            elif name == b"content-length":
                self._length = int(value)
                self.unread = self._length > 0
            elif name == b"transfer-encoding":
                self.unread = True
                self._codings += 1
                self._coding = value
            elif name == b"idempotency-key":
                self._keys.append(value)
            elif name == b"traceparent":
                self._traceparent = value
            elif name == b"tracestate":
                self._tracestate = value
            elif name == b"content-encoding" and value.lower() != b"identity":
                self._encoding = value
            elif name == b"authorization":
                self._authorizations += 1
            elif name == b"accept-encoding":
                self._accepts.append(value)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    @property
    def by(self) -> By:
        """Who makes it, for the audit log."""
        return By("http", self.client.name, "{}:{}".format(*self._peer) if self._peer else "", self.trace())

    def check(self) -> None:
        """Check what the parser lets pass, and another server on the way may read otherwise.

        Raises:
            InvalidArgument: its version is not 1.1 or 1.0; there is not exactly one Host header (1.0 may have none);
                its body is encoded otherwise than in chunks, or twice, or at all in 1.0; or its path is no UTF-8.
        """
        if self._version not in ("1.1", "1.0"):
            raise InvalidArgument(f"the node speaks HTTP/1.1, not {self._version}")
        if self._hosts != 1 and (self._hosts or self._version == "1.1"):
            raise InvalidArgument(f"a request needs exactly one Host header, but this one has {self._hosts}")
        if self._codings and (self._version == "1.0" or self._codings > 1 or self._coding.lower() != b"chunked"):
            raise InvalidArgument(
                "a body needs a Content-Length or, in HTTP/1.1, the encoding chunked; no other Transfer-Encoding is "
                "accepted"
            )
        raw: bytes = self._scope.get("raw_path", b"")
        if b"%" in raw:
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError as error:
                # Decoded with a replacement, two names would become one.
                raise InvalidArgument(f"the path {_NO_UTF8}") from error

    def token(self) -> str | None:
        """Return the client's token as presented, None when there is none.

        Raises:
            Unauthenticated: (TOKEN_INVALID) more than one was presented, or one in `Authorization` as well.
        """
        if len(self._tokens) > 1 or (self._tokens and self._authorizations):
            raise Unauthenticated(
                "several tokens in one request; send X-Client-Token once, and no Authorization", code="TOKEN_INVALID"
            )
        return self._tokens[0].decode("latin-1") if self._tokens else None

    @property
    def accepted(self) -> Accepted:
        """How its client takes an answer."""
        return accepted(b",".join(self._accepts))

    def hides_a_slash(self) -> bool:
        """Whether its path has a percent-encoded slash: what is in front of the node may not take that for one."""
        raw: bytes = self._scope.get("raw_path", b"")
        return b"%" in raw and b"%2f" in raw.lower()

    @property
    def has_key(self) -> bool:
        """Whether there is an Idempotency-Key."""
        return bool(self._keys)

    def idempotency_key(self) -> str | None:
        """Return the Idempotency-Key, None when there is none.

        Raises:
            InvalidArgument: there are several, or it is empty: who sends that means to have one.
        """
        if not self._keys:
            return None
        if len(self._keys) > 1:
            raise InvalidArgument("several Idempotency-Key headers in one request; send one")
        if not self._keys[0]:
            raise InvalidArgument(
                "Idempotency-Key is empty; give it a value, or leave it out",
                details=[Violation("Idempotency-Key", "is empty")],
            )
        return self._keys[0].decode("latin-1")

    def trace(self) -> str:
        """Return the trace that its headers say it belongs to; empty when they say none, or nonsense."""
        if not self._traceparent:
            return ""
        return trace_of(self._traceparent.decode("latin-1"), self._tracestate.decode("latin-1"))

    def parameters(self, known: frozenset[str], repeatable: frozenset[str] = frozenset()) -> dict[str, str]:
        """Return the query's parameters; those that may be repeated are joined by commas.

        Raises:
            InvalidArgument: one is unknown, is there twice and may not be, or is no UTF-8.
        """
        found: dict[str, str] = {}
        if not self._query:
            return found
        try:
            pairs = _pairs(self._query)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"the query {_NO_UTF8}") from error
        except ValueError as error:
            raise InvalidArgument(f"the query has more than {_MAX_PARAMETERS} parameters; send fewer") from error
        for name, value in pairs:
            if name == "offset" and "page_token" in known:
                reason = "is not supported; use page_token with the next_page_token of the page before"
                raise InvalidArgument(f"offset {reason}", details=[Violation("offset", reason)])
            if name not in known:
                reason = f"is not a parameter of this route; it takes {', '.join(sorted(known)) or 'none'}"
                raise InvalidArgument(f"{name[:128]!r} {reason}", details=[Violation(name[:128], reason)])
            if name not in found:
                found[name] = value
            elif name in repeatable:
                found[name] += f",{value}"
            else:
                raise InvalidArgument(f"{name!r} is given twice", details=[Violation(name, "is given twice")])
        return found

    async def body(self) -> bytes:
        """Read the body to its end.

        Raises:
            InvalidArgument: (INVALID_JSON) it is compressed, or encoded otherwise.
            TooLarge: (PAYLOAD_TOO_LARGE) it has more bytes than the limit; what follows stays unread.
            ResourceExhausted: (REQUESTS_FULL) too many bodies of this client come in.
            Disconnected: the client went away.
        """
        self._check_encoding("INVALID_JSON")
        if self._length > self._max_body:
            raise self._too_large()
        chunk, more = await self._next()
        if not more:
            return chunk
        async with self._arrivals.place(None if self.client is NOBODY else self.client.name):
            return await self._rest(chunk)

    async def _rest(self, chunk: bytes) -> bytes:
        chunks, size, more = [chunk], len(chunk), True
        while more:
            chunk, more = await self._next()
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            chunks.append(chunk)
        return b"".join(chunks)

    def chunks(self, most: int) -> AsyncIterator[bytes]:
        """The body as it comes, as much of it at a time as has come.

        Arguments:
            most: how many bytes it may have, in the place of the limit of other bodies.
        Raises:
            InvalidArgument: it is compressed, or encoded otherwise.
            TooLarge: (FILE_TOO_LARGE) it says that it has more bytes; also while it comes, and then has.
            Disconnected: while it comes: the client went away.
            Unauthenticated: (TOKEN_INVALID) while it comes: the client's token was taken back.
        """
        self._check_encoding(InvalidArgument.code)
        if self._length > most:
            raise _file_too_large(most)
        return self._chunks(most)

    async def _chunks(self, most: int) -> AsyncIterator[bytes]:
        left, more = most, True
        while more:
            chunk, more = await self._next()
            left -= len(chunk)
            if left < 0:
                raise _file_too_large(most)
            if self.credential is not None and self.credential.revoked:
                raise self.credential.taken_back()
            if chunk:
                yield chunk

    def waiting(self, seconds: float) -> Waiting:
        """A wait of its client for an answer, of so many seconds at most."""
        assert self.credential is not None  # noqa: S101  nobody else waits
        return Waiting(seconds, self._scope["state"]["hurry"], self.credential)

    async def linger(self) -> None:
        """Take in and drop what is left of a refused body, for a second at most, until its sender ends or goes.

        A connection that is closed while bytes come in is reset, and the reset can overtake the answer.
        """
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self.unread and left > 0:
                    left -= len((await self._next())[0])
        except (TimeoutError, Disconnected):
            pass

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self.unread = message.get("more_body", False)
        return message.get("body", b""), self.unread

    def _check_encoding(self, code: str) -> None:
        if self._encoding:
            shown = self._encoding[:64].decode("latin-1")
            raise InvalidArgument(
                f"the body has Content-Encoding {shown!r}; send it unencoded, without this header", code=code
            )

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over the limit of {self._max_body} bytes (HTTP_BODY_MAX_BYTES); send less")


def _file_too_large(most: int) -> TooLarge:
    return TooLarge(f"the file is over the limit of {most} bytes; split it", code="FILE_TOO_LARGE")


@lru_cache(maxsize=64)
def _pairs(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query; most requests have the same ones."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict")
