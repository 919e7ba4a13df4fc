"""The HTTP door over TLS: its listener, handshakes that count as connections from the start, and what becomes of them.

The node's own listener, as the loop's would count a connection, and take its certificate, only once it is too late.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509
from uvicorn import Config
from uvicorn.server import ServerState

from holon.clock import Time
from holon.errors import HolonError
from holon.security.context import server_context
from holon.security.identity import certificates_of, valid_until
from holon.security.refused import Refused
from holon.security.tls import ServerCredentials
from holon.security.tls_files import TlsFiles
from holon.telemetry.audit import By
from holon.transports.http.connection import Connection
from holon.transports.http.connection_limit import ConnectionLimit, Place

log = logging.getLogger(__name__)

# How often it is looked at whether a client's certificate counts.
_LOOK_SECONDS = 60.0
# How long the goodbye of TLS is waited for.
_GOODBYE_SECONDS = 1.0
# What waits in a connection for who does not read, as without TLS; by default it is eight times that.
_WRITE_BUFFER = 64 * 1024
# How long nothing is accepted after the system said that it has no room.
_NO_ROOM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Tls:
    """What the door needs to speak TLS.

    Attributes:
        files: what it shows, the newest at each handshake.
        clock: by which clients' certificates are valid.
        client_certificates: whether a client must present one; its connection ends when that does.
        handshake: seconds that a handshake may take.
        refused: hears of those whose certificate is not, or no longer, let in.
    """

    files: TlsFiles
    clock: Time
    client_certificates: bool
    handshake: float
    refused: Refused


class SecuredConnection(Connection):
    """One connection of the door whose handshake has succeeded.

    TLS looks at a client's certificate once, and at its dates not even then where it takes up an old session. So it is
    looked at here as well: when the connection opens, whenever the files have changed, and when it ends.
    """

    def __init__(
        self, config: Config, state: ServerState, silence: float, limit: ConnectionLimit, place: Place, tls: Tls
    ) -> None:
        super().__init__(config, state, silence, limit, place)
        self._tls = tls
        self._presented: tuple[x509.Certificate, ...] = ()
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Look at the client's certificate, and wait for its first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        if not self._tls.client_certificates:
            return
        try:
            self._presented = certificates_of(_presented(transport))
        except HolonError as error:
            self._shut_out(error)
        else:
            self.look_again()

    def look_again(self) -> None:
        """End at once if the client's certificate is none that is let in, or no longer."""
        if not self._tls.client_certificates:
            return
        now = self._tls.clock.now_ms()
        try:
            until = self._trusted_until(now)
        except HolonError as error:
            self._shut_out(error)
            return
        if self._end is not None:
            self._end.cancel()
        left = (until - now) / 1000
        # Idle it ends then, else after its answer. What the loop waits by does not hear of a clock that is set.
        self._end = (
            self.loop.call_later(left, self.shutdown)
            if left <= _LOOK_SECONDS
            else self.loop.call_later(_LOOK_SECONDS, self.look_again)
        )

    def _trusted_until(self, now: int) -> float:
        leaf, *above = self._presented
        trust = self._tls.files.current.trust
        path = trust.path(leaf, above, now)
        return min(valid_until(leaf, now), path.expires_at_ms, trust.check(path, now))

    def _shut_out(self, error: HolonError) -> None:
        log.debug("the HTTP port refused a client: %s", error.message)
        peer = self.transport.get_extra_info("peername")
        shown = f"certificate {self._presented[0].serial_number:x}" if self._presented else "certificate"
        self._tls.refused.call(error, By("http", peer="{}:{}".format(*peer) if peer else ""), shown)
        self._ending = True
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is waited for."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # as Connection has it
        """The client has ended it: in TLS there are no halves."""
        return False


class SecuredListener:
    """Listens for connections, and shakes hands with each; what comes to nothing ends without a word.

    Arguments:
        limit: where each takes a place, before anything is read of it.
        connection: makes the connection of a handshake that succeeds, which has that place from then on.
    """

    def __init__(self, tls: Tls, limit: ConnectionLimit, connection: Callable[[Place], SecuredConnection]) -> None:
        self._tls = tls
        self._limit = limit
        self._connection = connection
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._served: ServerCredentials | None = None
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<SecuredListener sockets={len(self._sockets)} handshakes={len(self._handshakes)}>"

    def __len__(self) -> int:
        return len(self._handshakes)

    def listen(self, host: str, port: int, *, backlog: int, reuse_port: bool) -> int:
        """Listen on an address too; return its port. Raises OSError when it cannot be listened on."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=backlog, reuse_port=reuse_port)
        listening.setblocking(False)
        self._sockets.append(listening)
        loop = asyncio.get_running_loop()
        self._accepting.append(loop.create_task(self._accept(listening), name="http-accept"))
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end the handshakes under way."""
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for listening in self._sockets:
                listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    log.warning(
                        "the HTTP port cannot accept connections; next try in %g s: %s", _NO_ROOM_SECONDS, error
                    )
                    await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            place = self._limit.take(peer)
            if place is None:
                accepted.close()
                continue
            task = loop.create_task(self._shake_hands(accepted, place), name="http-handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, accepted: socket.socket, place: Place) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(self._connection, place),
                accepted,
                ssl=self._newest(),
                ssl_handshake_timeout=self._tls.handshake,
                ssl_shutdown_timeout=_GOODBYE_SECONDS,
            )
        except BaseException as error:
            place.leave()
            if not isinstance(error, OSError):
                raise
            log.debug("a TLS handshake at the HTTP port failed: %s", error)

    def _newest(self) -> ssl.SSLContext:
        files = self._tls.files.current
        if self._context is None or files is not self._served:
            authorities = files.authorities if self._tls.client_certificates else None
            self._context, self._served = server_context(files.chain, files.key, authorities), files
        return self._context


def _presented(transport: asyncio.Transport) -> list[bytes]:
    """What the client has sent, its own certificate first; DER."""
    secured: Any = transport.get_extra_info("ssl_object")
    if sys.version_info >= (3, 13):
        return list(secured.get_unverified_chain())
    chain = secured._sslobj.get_unverified_chain() or ()  # noqa: SLF001  public from 3.13 on
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain]
