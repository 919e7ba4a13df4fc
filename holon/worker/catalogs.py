"""The worker SDK: what the worker offers, as it is said on one stream, and again where that could not be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holon.rxon.v1 import worker_pb2


class Catalogs:
    """Says what the worker offers. What the node could not take just then is said again, as it is by then.

    Arguments:
        put: sends a message; answers with its ordinal on the stream, None where nothing is sent any more.
        again_after: before it is said again where the node does not say when, seconds.
    """

    def __init__(self, put: Callable[[worker_pb2.SessionRequest], int | None], again_after: float) -> None:
        self._put = put
        self._again_after = again_after
        self._loop = asyncio.get_running_loop()
        self._said: tuple[int | None, worker_pb2.Catalog] | None = None
        self._again: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Catalogs({'to be said again' if self._again else 'said' if self._said else 'as in Hello'})"

    def say(self, catalog: worker_pb2.Catalog) -> None:
        """Say this one; whatever becomes of an earlier one does not matter any more."""
        self.stop()
        self._said = (self._put(worker_pb2.SessionRequest(catalog=catalog)), catalog)

    def refused(self, refusal: worker_pb2.SessionError) -> None:
        """A message was refused: if it was the newest catalog, and only for now, nobody else brings it to the node."""
        if self._said is None or refusal.frame != self._said[0] or not refusal.error.HasField("retry_after"):
            return
        self.stop()
        after = refusal.error.retry_after
        wait = after.seconds + after.nanos / 1e9
        self._again = self._loop.call_later(wait if wait > 0 else self._again_after, self.say, self._said[1])

    def stop(self) -> None:
        """Say nothing again."""
        if self._again:
            self._again.cancel()
        self._again = None
