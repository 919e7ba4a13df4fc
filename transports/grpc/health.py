"""The gRPC doors: their health, by the standard service, for whoever looks after the process. It asks for no token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc
from grpc_health.v1 import health_pb2

from holon.errors import NotFound
from transports.grpc.calls import streamed, unary

SERVICE = "grpc.health.v1.Health"
MAX_BYTES = 1024

Request = health_pb2.HealthCheckRequest
Response = health_pb2.HealthCheckResponse


class Health:
    """Whether a door takes calls; for the door as a whole, which is the service without a name.

    Not grpc's own, in which one watcher that does not read holds up all others, and the end of the node with them.
    """

    def __init__(self) -> None:
        self._drained = asyncio.Event()

    def __repr__(self) -> str:
        return f"Health({'draining' if self._drained.is_set() else 'serving'})"

    def drain(self) -> None:
        """From now on it takes nothing new; who watches is told."""
        self._drained.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service's calls by name."""
        calls = {
            "Check": unary("Check", Request, self._check, MAX_BYTES),
            "Watch": streamed("Watch", Request, self._watch, MAX_BYTES),
        }
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def _check(self, request: Request) -> Response:
        if request.service:
            raise NotFound("the health is that of the whole door; ask for it without a service")
        return self._now()

    async def _watch(self, request: Request) -> AsyncGenerator[bytes, None]:
        if request.service:
            yield Response(status=Response.SERVICE_UNKNOWN).SerializeToString()
        else:
            # Looked at before it is told: it can be drained while that is on its way.
            serving = not self._drained.is_set()
            yield self._now().SerializeToString()
            if serving:
                await self._drained.wait()
                yield self._now().SerializeToString()
        # A watcher ends its call itself.
        await asyncio.Event().wait()

    def _now(self) -> Response:
        return Response(status=Response.NOT_SERVING if self._drained.is_set() else Response.SERVING)
