"""The gRPC doors: who calls, by the certificate that TLS accepted."""

from __future__ import annotations

from typing import Any

import grpc.aio

from holon.security.identity import Identity, identify


def identity_of(context: grpc.aio.ServicerContext[Any, Any], now_ms: int) -> Identity:
    """Return who presented the certificate of this call's connection.

    Raises:
        Unauthenticated: none was presented, or it is not one to be accepted any more.
    """
    presented = context.auth_context().get("x509_pem_cert", ())
    return identify(next(iter(presented), b""), now_ms)
