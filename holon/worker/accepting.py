"""The worker SDK: when it is told that a task was taken. Nearly all are over before that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holon.worker.leases import Lease


class Accepting:
    """Tasks that were taken, of which nothing was told yet: they are accepted a moment later, many together.

    A final word says the same: of a short task none has to be said but that.

    Arguments:
        after: how long that moment is, in seconds.
        accept: tells that a task is accepted.
    """

    def __init__(self, after: float, accept: Callable[[Lease], None]) -> None:
        self._after = after
        self._accept = accept
        self._leases: dict[Lease, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Accepting({len(self._leases)})"

    def soon(self, lease: Lease) -> None:
        """A task was taken."""
        self._leases[lease] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after, self._all)

    def first(self, lease: Lease) -> None:
        """Something else than a final word is about to be told of a task: that it is accepted comes before."""
        if self._drop(lease):
            self._accept(lease)

    def over(self, lease: Lease) -> None:
        """A task's final word is told."""
        self._drop(lease)

    def stop(self) -> None:
        """Accept no more."""
        self._leases.clear()
        self._cancel()

    def _drop(self, lease: Lease) -> bool:
        was_there = self._leases.pop(lease, lease) is None
        # Who has no other to accept is not woken for that.
        if was_there and not self._leases:
            self._cancel()
        return was_there

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _all(self) -> None:
        self._timer = None
        leases, self._leases = self._leases, {}
        for lease in leases:
            self._accept(lease)
