"""The client: where the node is, and the channels to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from holon.errors import ConfigError
from holon.files import SOCKET_PATH_BYTES
from holon.wire.address import parse_url, socket_target
from holon.wire.pem import certificates_problem
from holon.wire.stream import MOST_MESSAGE_BYTES

DEFAULT_PORT = 7701
# Each may be sent again when a reply was lost: the client gives a request id to every creation, cancel, decision and
# signal.
_REPEATABLE = {
    "JobService": (
        "CreateJob", "BatchCreateJobs", "GetJob", "ListJobs", "ListJobIds", "GetJobHistory", "GetJobTree", "WatchJob",
        "CancelJob", "ResolveApproval", "SendSignal",
    ),
    "NodeService": (
        "GetNode", "ListBlueprints", "GetBlueprint", "ListWorkers", "GetWorkerHistory", "GetWebhookSecret",
        "ListSkills", "GetStats", "DrainNode", "DrainWorker",
    ),
}  # fmt: skip
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": f"holon.rxon.v1.{service}", "method": method}
                for service, methods in _REPEATABLE.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                # A node that ends resets the calls under way, which looks like a cancel.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # What a call has sent is kept for its repeats; by default 256 KiB of it, and more is sent once.
    ("grpc.per_rpc_retry_buffer_size", MOST_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    # A node that has started again is found soon, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
# How long nothing may come on a connection before it is asked for a sign of life, and how long for that, in
# milliseconds: together less than a call takes, so that one on a line that is dead is repeated on another. A node lets
# no client ask more often than every 10 s.
PING_MS, PONG_MS = 15_000, 10_000
_SOCKET = "unix:"
_NAME_CA = "use the file of the authority that issued the node's certificate (HOLON_CA for commands)"
_APART = (("grpc.use_local_subchannel_pool", 1),)
# A machine's proxy has no business on its loopback.
_NO_PROXY = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is, with all that is needed to speak with it: nothing is read again for a further channel.

    Attributes:
        target: the address as gRPC takes it.
        credentials: what checks the node's certificate; None: it is spoken to in the clear.
        options: what its channels are set to beside what all are.
    """

    target: str
    credentials: grpc.ChannelCredentials | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def open(self, *, apart: bool = False) -> grpc.aio.Channel:
        """Make a channel to it, which connects with the first call.

        Arguments:
            apart: whether it has a connection of its own, which no other channel to the same place shares.
        """
        options = _options(apart) + self.options
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self.credentials, options=options)


def place_of(url: str, ca: str | Path | None) -> Place:
    """What `grpcs://host:port`, or on the loopback `grpc://host:port`, names; without a port it is 7701.

    `unix:/path` is a node's ADMIN_SOCKET on this machine. Blocks for the read of `ca`.

    Arguments:
        ca: a file (PEM) with the authorities that the node's certificate may come from; None takes the system's.
    Raises:
        ConfigError: the address is none, would send the token in the clear to another machine, or `ca` cannot be read
            or holds no certificate.
    """
    if url == _SOCKET:
        raise ConfigError(f"{url!r} is not the address of a socket; write unix:/path")
    if url.startswith(_SOCKET):
        path = url.removeprefix(_SOCKET)
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            raise ConfigError(f"{url!r} is not the address of a socket: its path has over {SOCKET_PATH_BYTES} bytes")
        return Place(socket_target(path))
    try:
        where = parse_url(url, DEFAULT_PORT)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    options = _NO_PROXY if where.is_loopback else ()
    return Place(where.target, _credentials(ca) if where.secure else None, options)


def _credentials(ca: str | Path | None) -> grpc.ChannelCredentials:
    try:
        roots = Path(ca).read_bytes() if ca else None
        wrong = certificates_problem(Path(ca)) if ca else None
    except OSError as error:
        raise ConfigError(f"the CA file {ca} cannot be read: {error.strerror}; {_NAME_CA}") from error
    if wrong:
        raise ConfigError(f"the CA file {wrong}; {_NAME_CA}")
    return grpc.ssl_channel_credentials(roots)


def _options(apart: bool) -> tuple[tuple[str, Any], ...]:
    living = (
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", PONG_MS),
        # What it asks for reasons of its own is waited for no longer.
        ("grpc.http2.ping_timeout_ms", PONG_MS),
        # Also while it has nothing to do: the next call is not to be what finds out.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    return _OPTIONS + living + (_APART if apart else ())
