"""The client: where its streams run, so that calls never wait behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import grpc.aio

# A connection carries a hundred calls at once; what is over waits, and that must never be a call.
MOST_BESIDE_CALLS = 32
MOST_ALONE = 90


class Streams:
    """Lends channels to streams: the client's own to the first few, then others that carry nothing else.

    Arguments:
        own: the client's channel.
        more: makes another one, with a connection of its own.
        resources: closes what was made.
    """

    def __init__(self, own: grpc.aio.Channel, more: Callable[[], grpc.aio.Channel], resources: AsyncExitStack) -> None:
        self._own = own
        self._more = more
        self._resources = resources
        self._used: dict[grpc.aio.Channel, int] = {own: 0}

    def __repr__(self) -> str:
        return f"Streams(channels={len(self._used)}, streams={sum(self._used.values())})"

    @contextmanager
    def lend(self) -> Iterator[grpc.aio.Channel]:
        """A channel with room for one more stream, for as long as that lasts."""
        channel = next((one for one in self._used if self._used[one] < self._most(one)), None)
        if channel is None:
            channel = self._more()
            self._used[channel] = 0
            self._resources.push_async_callback(channel.close)
        self._used[channel] += 1
        try:
            yield channel
        finally:
            self._used[channel] -= 1

    def _most(self, channel: grpc.aio.Channel) -> int:
        return MOST_BESIDE_CALLS if channel is self._own else MOST_ALONE
