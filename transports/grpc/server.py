"""The gRPC doors: one bounded server on one port, with its health, from its opening to its end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

import grpc
import grpc.aio

from holon.errors import ConfigError, Violation
from holon.files import share_of_files
from holon.security.tls_files import TlsFiles
from holon.transports.grpc.health import Health, names_of
from holon.transports.grpc.settings import DoorSettings

# How long streams that were told to end may take, before their connections are closed.
FAREWELL_S = 1.0


def options(settings: DoorSettings, max_streams: int) -> tuple[tuple[str, Any], ...]:
    """Return what grpc is told of a door; `max_streams` is of one connection."""
    bounds = settings.bounds
    # Three of these and the HTTP door leave a sixth: what else needs files, as a store that is connected to again, has
    # them whatever strangers do here.
    connections = share_of_files(6, bounds.connections)
    return (
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # The limit on a message is checked after it was unpacked: a small one could unpack to gigabytes.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", max_streams),
        # Between the two, calls would fail at random.
        ("grpc.max_metadata_size", bounds.metadata_bytes),
        ("grpc.absolute_max_metadata_size", bounds.metadata_bytes),
        ("grpc.server_handshake_timeout_ms", _ms(bounds.handshake)),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_connection_idle_ms", _ms(bounds.idle)),
        ("grpc.max_connection_age_ms", _ms(bounds.age)),
        ("grpc.max_connection_age_grace_ms", _ms(bounds.age_grace)),
        # A peer that stands still while something is written to it is found by this alone.
        ("grpc.keepalive_time_ms", _ms(bounds.ping)),
        ("grpc.keepalive_timeout_ms", _ms(bounds.pong)),
        # Clients that ping behind a proxy are welcome: without this they are cut off for it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Else a ping after nearly every heartbeat measures the line: a fifth of what an idle worker costs. The price is
        # a window that does not grow, which tells on far lines only: 18 MiB/s at 50 ms there and back.
        ("grpc.http2.bdp_probe", 0),
    )


async def started(server: grpc.aio.Server) -> None:
    """Have a server serve. On cancel it is stopped: its port, or its socket, would be its own for good."""
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Not cancelled: grpc would go on with it, and find that nobody waits.
        await asyncio.wait((starting,))
        await server.stop(None)
        raise


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Server:
    """One door's server. Open while it is entered; `port` is where it then listens.

    Arguments:
        name: what the door is called in messages, such as `worker door`.
        variables: the settings of its host and its port.
        handlers: its services.
        tls: its certificate, the newest at each handshake; None listens in plaintext, on loopback only.
        client_certificates: whether a caller must present a certificate.
        max_streams: how many calls one connection may have at once.
    """

    def __init__(
        self,
        name: str,
        variables: tuple[str, str],
        settings: DoorSettings,
        handlers: Sequence[grpc.GenericRpcHandler],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        tls: TlsFiles | None,
        *,
        client_certificates: bool,
        max_streams: int,
    ) -> None:
        self.port = 0
        self._name = name
        self._variables = variables
        self._settings = settings
        self._handlers = handlers
        self._interceptors = interceptors
        self._tls = tls
        self._client_certificates = client_certificates
        self._max_streams = max_streams
        self._health = Health(handlers)

    def __repr__(self) -> str:
        return f"Server({self._name}, {self._settings.host}:{self.port})"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: the address cannot be used, or is not loopback and there is no certificate.
        """
        self._server = grpc.aio.server(
            interceptors=self._interceptors, options=options(self._settings, self._max_streams)
        )
        handlers = [*self._handlers, self._health.handler()]
        if self._settings.reflection:
            from holon.transports.grpc import reflection

            handlers += reflection.handlers(names_of(handlers))
        self._server.add_generic_rpc_handlers(handlers)
        self.port = self._bind()
        await started(self._server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        await self._server.stop(FAREWELL_S)

    def drain(self) -> None:
        """Say in the health service that this door takes nothing new."""
        self._health.drain()

    def _bind(self) -> int:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.port}"
        try:
            if self._tls is None:
                if not _is_loopback(settings.host):
                    raise ConfigError(
                        f"the {self._name} would listen on {address} without TLS; set the TLS files, or use a "
                        "loopback address"
                    )
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials(self._tls))
        except RuntimeError as error:
            raise self._unavailable(address) from error

    def _unavailable(self, address: str) -> ConfigError:
        host, port = self._variables
        error = _why_not(self._settings)
        if error is None:
            name, why = (
                port,
                "gRPC did not accept the certificate and its key" if self._settings.port else "no port is free",
            )
        elif isinstance(error, socket.gaierror):
            name, why = host, f"this machine does not know this host ({error.strerror}); use another one"
        elif error.errno == errno.EADDRNOTAVAIL:
            name, why = host, "this machine does not have this address; use one that it has"
        elif error.errno == errno.EADDRINUSE:
            name, why = port, "the port is in use; stop the program that listens there, or use another port"
        else:
            name, why = port, f"{error.strerror or error}; use another address"
        reason = f"the {self._name} cannot listen on {address}: {why}"
        return ConfigError(f"{name}: {reason}", code="PORT_UNAVAILABLE", details=[Violation(name, reason)])

    def _credentials(self, tls: TlsFiles) -> grpc.ServerCredentials:
        shown = tls.current
        if self._client_certificates and not shown.authorities:
            raise ConfigError(
                f"the {self._name} requires client certificates, but no authority is set; set TLS_CA_PATH"
            )

        def configuration() -> grpc.ServerCertificateConfiguration:
            authorities = shown.authorities if self._client_certificates else None
            return grpc.ssl_server_certificate_configuration([(shown.key, shown.chain)], root_certificates=authorities)

        def changed() -> grpc.ServerCertificateConfiguration | None:
            # gRPC's threads ask this at each handshake, one at a time; None is no change, and must be the rule: gRPC
            # drops the configuration of before without regard for a handshake that another thread begins with it. With
            # another one each time, whoever opens many connections brings the process down.
            nonlocal shown
            newest = tls.current
            if newest is shown:
                return None
            shown = newest
            return configuration()

        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)
        return grpc.dynamic_ssl_server_credentials(configuration(), fetch, self._client_certificates)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why_not(settings: DoorSettings) -> OSError | None:
    """Ask the system itself: grpc says only that it could not. None: the address is not why."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None
