"""The client door: calls are counted, and those over a client's limit are refused before anything of them is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from holon.engine.rates import Call, RateLimits
from holon.errors import HolonError
from holon.transports.grpc.clients import client
from holon.transports.grpc.tokens import OPEN, Details, Handler, refusing


class RateCheck(grpc.aio.ServerInterceptor):
    """Lets calls through as far as their client's limit goes; it stands behind the check of their token."""

    def __init__(self, rates: RateLimits) -> None:
        self._rates = rates

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """Go on with the call, or put a handler in its place that refuses it."""
        if not handler_call_details.method.startswith(OPEN):
            try:
                await self._rates.admit(Call.GRPC, client().name)
            except HolonError as error:
                return refusing(error)
        return await continuation(handler_call_details)
