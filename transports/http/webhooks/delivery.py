"""Webhooks: one try to tell a receiver of a job's end, by HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpcore

from holon.domain.webhook import Target, target_of
from holon.ports import Answer, Heard
from holon.transports.http.webhooks.names import Look, Names, NameUnknown, look_up
from holon.transports.http.webhooks.network import CheckedNetwork, Forbidden
from holon.transports.http.webhooks.settings import DeliverySettings
from holon.transports.http.webhooks.signing import signed

# So much of an answer is read, and waited for, once its status is there: the connection is then good for the next.
MAX_ANSWER_BYTES = 64 * 1024
ANSWER_S = 1.0
# How many connections are kept, and for how long, while nothing is sent.
KEPT = 32
KEPT_S = 15.0
_GONE = 410
_LATE = (httpcore.TimeoutException, TimeoutError)


class HttpDelivery:
    """Tells receivers, while it is entered (`async with`).

    Nothing is read of the process's environment but where the authorities are that certificates must come from
    (`SSL_CERT_FILE`): what it says of proxies is not for this. No redirect is followed.

    Arguments:
        now: the time by which receivers see how old a message is, in epoch milliseconds.
        look: finds the addresses of a name.
    """

    def __init__(self, settings: DeliverySettings, now: Callable[[], int], look: Look = look_up) -> None:
        self._settings = settings
        self._now = now
        trust = ssl.create_default_context()
        trust.minimum_version = ssl.TLSVersion.TLSv1_2
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=None,
            max_keepalive_connections=KEPT,
            keepalive_expiry=KEPT_S,
            network_backend=CheckedNetwork(settings.receivers, Names(look)),
        )

    def __repr__(self) -> str:
        return f"HttpDelivery({self._pool!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def send(self, url: str, message_id: str, body: bytes) -> Answer:
        """As `Delivery.send`."""
        try:
            target = target_of(url)
        except ValueError as error:
            return Answer(Heard.FORBIDDEN, f"the URL {error}")
        if reason := self._settings.receivers.why_not(target):
            return Answer(Heard.FORBIDDEN, f"the URL {reason}")
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._post(target, message_id, body)
        except _LATE:
            return Answer(Heard.LATE, f"the receiver did not answer within {self._settings.timeout:g} s")
        except Forbidden as error:
            return Answer(Heard.FORBIDDEN, str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, NameUnknown, OSError) as error:
            return Answer(Heard.UNREACHED, f"{type(error).__name__}: {error}")

    async def _post(self, target: Target, message_id: str, body: bytes) -> Answer:
        headers = [
            (b"host", target.place.encode("ascii")),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"user-agent", f"holon/{self._settings.version}".encode("ascii")),
            *signed(self._settings.secrets, message_id, self._now() // 1000, body),
        ]
        # In parts: read as a whole, it would lose what stands behind a semicolon.
        where = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.target)
        async with self._pool.stream("POST", where, headers=headers, content=body) as response:
            await _drain(response)
            status = response.status
            if 200 <= status < 300:
                return Answer(Heard.TOLD)
            heard = Heard.GONE if status == _GONE else Heard.REFUSED
            return Answer(
                heard, f"the receiver answered with status {status}", _again_after(response.headers, self._now())
            )


async def _drain(response: httpcore.Response) -> None:
    """Read a short answer to its end; what else comes goes with the connection."""
    left = MAX_ANSWER_BYTES
    try:
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.aiter_stream():
                left -= len(chunk)
                if left < 0:
                    return
    except (*_LATE, httpcore.NetworkError, httpcore.ProtocolError):
        # What it said is known.
        return


def _again_after(headers: Sequence[tuple[bytes, bytes]], now: int) -> int | None:
    """What `Retry-After` says, in milliseconds; None: nothing that can be understood."""
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"").decode("latin-1").strip()
    if said.isascii() and said.isdigit():
        return int(said[:9]) * 1000
    try:
        at = parsedate_to_datetime(said)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000) - now)
