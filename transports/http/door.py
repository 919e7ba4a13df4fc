"""The HTTP door: a listener of the node's own loop, with uvicorn's HTTP protocol and our application."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.server import ServerState

from holon.clock import SystemClock, Time
from holon.engine.blueprints import Blueprints
from holon.engine.client_files import ClientFiles
from holon.engine.jobs import Jobs
from holon.engine.overview import Overview
from holon.engine.rates import RateLimits
from holon.engine.trees import Trees
from holon.engine.watching import Watching
from holon.errors import ConfigError, Violation
from holon.files import share_of_files
from holon.security.clients import Clients
from holon.security.tls_files import TlsFiles
from holon.transports.http.app import App, Metrics
from holon.transports.http.connection import Connection
from holon.transports.http.connection_limit import ConnectionLimit
from holon.transports.http.keys import Keys
from holon.transports.http.secured import SecuredConnection, SecuredListener, Tls

_BACKLOG = 1024
_LEAVING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the door listens, and its limits.

    Attributes:
        host: a name or an address; every address of a name is listened on.
        port: 0 takes any free one.
        max_body: the most bytes that a request's body may have.
        reuse_port: let several processes share the port.
        keep_alive: seconds that a connection may be idle.
        silence: seconds that a request may take to come in, that its body may pause, and that its answer may go unread.
        handshake: seconds that a TLS handshake may take.
        connections: how many there may be at once, handshakes counted; never more than a third of the files that the
            process may open. Of one address there may be no more than are left to the others.
        client_certificates: whether, with TLS, a client must present a certificate.
        behind_proxy: whether it may listen off loopback in plaintext, as a proxy in front ends TLS.
        docs: show the OpenAPI document and its page.
        version: the node's, for that document.
        client_api: whether there is any route for clients; without, there are health and figures alone.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_body: int = 2**20
    reuse_port: bool = False
    keep_alive: int = 30
    silence: float = 30.0
    handshake: float = 5.0
    connections: int = 10_000
    client_certificates: bool = False
    behind_proxy: bool = False
    docs: bool = True
    version: str = ""
    client_api: bool = True


class HttpDoor:
    """Serves clients over HTTP while it is entered (`async with`). It handles no signals.

    Leaving it waits a second for what is under way, unless on an error; call `stop` to give it more.

    Arguments:
        blueprints: those that clients may create jobs of, all registered by now.
        overview: what the node tells of itself, and has files read again by, for administrators.
        settings: where it listens, and its limits.
        clients: who may come in.
        metrics: what is measured, as text, and its media type, for `GET /_public/metrics`; awaited on the loop.
            None has no such route.
        tls: what it shows as HTTPS; None is HTTP.
        clock: by which clients' certificates are valid.
        rates: counts the calls of each client; None takes any number.
        keys: what workers' access tokens are signed with, to show it; None: there are no such tokens.
        files: what clients may do with files of jobs; None: jobs have none.
    """

    def __init__(
        self,
        jobs: Jobs,
        watching: Watching,
        trees: Trees,
        blueprints: Blueprints,
        overview: Overview,
        settings: HttpSettings,
        clients: Clients,
        metrics: Metrics | None = None,
        tls: TlsFiles | None = None,
        clock: Time | None = None,
        rates: RateLimits | None = None,
        keys: Keys | None = None,
        files: ClientFiles | None = None,
    ) -> None:
        self._settings = settings
        self._watching = watching
        self._secured: SecuredListener | None = None
        self._tls: Tls | None = None
        if tls is not None:
            self._tls = Tls(
                tls, clock or SystemClock(), settings.client_certificates, settings.handshake, clients.refused
            )
            tls.on_change(self._look_again)
        docs = settings.version if settings.docs else None
        self._app = App(
            jobs,
            watching,
            trees,
            blueprints,
            overview,
            clients,
            settings.max_body,
            metrics,
            docs,
            rates,
            keys,
            files,
            client_api=settings.client_api,
        )
        self._state = ServerState()
        self._listeners: list[asyncio.Server] = []
        self._port = settings.port

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<HttpDoor {self._settings.host}:{self._port} connections={len(state.connections)} "
            f"requests={len(state.tasks)} handshakes={len(self._secured or ())} draining={self._app.draining}>"
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: (PORT_UNAVAILABLE) the address cannot be listened on; or it is not loopback, in plaintext.
        """
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self._settings.keep_alive,
        )
        config.load()
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._addresses(loop)
            self._check_reach(addresses)
            listen = self._listening(loop, config)
            for host in addresses:
                # A name with several addresses gets the same port on each.
                self._port = await listen(host, self._port)
        except OSError as error:
            await self._close(0)
            raise self._unavailable(error) from error
        except BaseException:
            await self._close(0)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(_LEAVING_SECONDS if exc_type is None else 0)

    def drain(self) -> None:
        """Refuse new jobs from now on, and close connections after their next answer. What runs is answered."""
        self._app.draining = True

    async def stop(self, grace: float) -> None:
        """Stop listening, wait `grace` seconds at most for what is under way, and end the rest.

        When cancelled, it ends the rest at once.
        """
        self.drain()
        # Who waits for the end of a job is told how far it is.
        self._watching.close()
        await self._close(grace)

    def _listening(
        self, loop: asyncio.AbstractEventLoop, config: uvicorn.Config
    ) -> Callable[[str, int], Awaitable[int]]:
        """What listens on an address, and says on which port."""
        settings, state, tls = self._settings, self._state, self._tls
        # What is left is of the other doors, which have a sixth each, and of the store, whatever strangers do here.
        limit = ConnectionLimit(share_of_files(3, settings.connections))

        async def listen(host: str, port: int) -> int:
            listener = await loop.create_server(
                lambda: Connection(config, state, settings.silence, limit),
                host,
                port,
                backlog=_BACKLOG,
                reuse_port=settings.reuse_port or None,
                start_serving=False,
            )
            # Known before it listens: what a cancel leaves of it is closed.
            self._listeners.append(listener)
            await listener.start_serving()
            return int(listener.sockets[0].getsockname()[1])

        if tls is None:
            return listen
        secured = self._secured = SecuredListener(
            tls, limit, lambda place: SecuredConnection(config, state, settings.silence, limit, place, tls)
        )

        async def listen_secured(host: str, port: int) -> int:
            return secured.listen(host, port, backlog=_BACKLOG, reuse_port=settings.reuse_port)

        return listen_secured

    def _look_again(self) -> None:
        """Other authorities or lists of them are in force: end the connections of those who are let in no more."""
        for connection in tuple(self._state.connections):
            if isinstance(connection, SecuredConnection):
                connection.look_again()

    def _check_reach(self, addresses: Sequence[str]) -> None:
        if self._tls is not None or self._settings.behind_proxy:
            return
        if not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
            reason = (
                f"{self._settings.host} is reachable from other machines, and HTTP is not encrypted; set "
                "TLS_ENABLED, or a loopback address"
            )
            raise ConfigError(f"API_HOST: {reason}", details=[Violation("API_HOST", reason)])

    async def _close(self, grace: float) -> None:
        for listener in self._listeners:
            listener.close()
        try:
            if self._secured is not None:
                await self._secured.close()
            for connection in tuple(self._state.connections):
                # Idle ones close now, the others after their answer.
                connection.shutdown()
            if self._state.tasks and grace > 0:
                await asyncio.wait(tuple(self._state.tasks), timeout=grace)
        finally:
            for connection in tuple(self._state.connections):
                if isinstance(connection, Connection):
                    connection.abort()
            # The connections tell their requests first, so that those end without trying to answer.
            await asyncio.sleep(0)
            left = tuple(self._state.tasks)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    def _unavailable(self, error: OSError) -> ConfigError:
        host, why = self._settings.host, error.strerror or str(error)
        if isinstance(error, socket.gaierror):
            name, reason = "API_HOST", f"this machine does not know the host {host} ({why}); use another one"
        elif error.errno in (errno.EADDRNOTAVAIL, None):
            # From Python 3.13 on asyncio tells of it without a number.
            name, reason = "API_HOST", f"this machine does not have the address {host}; use one that it has"
        elif error.errno == errno.EADDRINUSE:
            name, reason = (
                "API_PORT",
                f"{host}:{self._port} is in use; stop the program that listens there, or use another port",
            )
        else:
            name, reason = "API_PORT", f"cannot listen on {host}:{self._port}: {why}; use another address"
        return ConfigError(f"{name}: {reason}", code="PORT_UNAVAILABLE", details=[Violation(name, reason)])

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        found = await loop.getaddrinfo(self._settings.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
