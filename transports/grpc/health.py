"""The gRPC doors: their health, by the standard service, for whoever looks after the process. It asks for no token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import grpc
from grpc_health.v1 import health_pb2

from holon.errors import NotFound
from holon.transports.grpc.calls import streamed, unary

SERVICE = "grpc.health.v1.Health"
MAX_BYTES = 1024

Request = health_pb2.HealthCheckRequest
Response = health_pb2.HealthCheckResponse


def names_of(handlers: Sequence[grpc.GenericRpcHandler]) -> list[str]:
    """The full names of the services that a door's handlers serve."""
    named = [handler.service_name() for handler in handlers if isinstance(handler, grpc.ServiceRpcHandler)]
    return [name for name in named if name]


class Health:
    """Whether a door takes calls: the door as a whole, which is the service without a name, and so all its services.

    Not grpc's own, in which one watcher that does not read holds up all others, and the end of the node with them.

    Arguments:
        handlers: of the door's services.
    """

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler] = ()) -> None:
        self._known = frozenset({"", *names_of(handlers)})
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
        if request.service not in self._known:
            raise NotFound("this port has no service of that name; leave the name empty to check the whole port")
        return self._now()

    async def _watch(self, request: Request) -> AsyncGenerator[bytes, None]:
        if request.service not in self._known:
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
