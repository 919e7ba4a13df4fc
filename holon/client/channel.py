"""The client: where the node is, and the one channel to it."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from holon.errors import ConfigError

DEFAULT_PORT = 7701
MAX_MESSAGE_BYTES = 64 * 2**20
# Each may be sent again when a reply was lost: the client gives every creation a request id.
_REPEATABLE = {
    "JobService": (
        "CreateJob", "BatchCreateJobs", "GetJob", "ListJobs", "CancelJob", "GetJobHistory", "WatchJob",
    ),
    "NodeService": (
        "GetNode", "ListBlueprints", "GetBlueprint", "ListWorkers", "ListSkills", "GetStats", "DrainNode",
        "DrainWorker",
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
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A node that has started again is found soon, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_APART = (("grpc.use_local_subchannel_pool", 1),)
# A machine's proxy has no business on its loopback.
_NO_PROXY = (("grpc.enable_http_proxy", 0),)


def open_channel(url: str, ca: str | Path | None, *, apart: bool = False) -> grpc.aio.Channel:
    """Make a channel to `grpcs://host:port`, or on the loopback `grpc://host:port`; without a port it is 7701.

    It connects with the first call. Blocks for the read of `ca`.

    Arguments:
        ca: a file (PEM) with the authorities that the node's certificate may come from; None takes the system's.
        apart: whether it has a connection of its own, which no other channel to the same place shares.
    Raises:
        ConfigError: the address is none, would send the token in the clear to another machine, or `ca` cannot be read.
    """
    secure, host, port = _parse(url)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    loopback = _is_loopback(host)
    options = _OPTIONS + (_NO_PROXY if loopback else ()) + (_APART if apart else ())
    if not secure:
        if not loopback:
            raise ConfigError(f"{url!r} is not encrypted, which is allowed on the loopback only; write grpcs://")
        return grpc.aio.insecure_channel(target, options=options)
    try:
        roots = Path(ca).read_bytes() if ca else None
    except OSError as error:
        raise ConfigError(f"the CA file {ca} cannot be read: {error.strerror}") from error
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options=options)


def _parse(url: str) -> tuple[bool, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise _no_address(url) from error
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or more:
        raise _no_address(url)
    return parts.scheme == "grpcs", parts.hostname, port


def _no_address(url: str) -> ConfigError:
    return ConfigError(
        f"{url!r} is no address of a node's client door; write grpcs://host:{DEFAULT_PORT}, or on this machine "
        f"grpc://127.0.0.1:{DEFAULT_PORT}"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
