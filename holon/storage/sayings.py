"""What workers of this node say of other nodes' tasks: the newest word of each lease, until its owner has heard it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from holon.errors import HolonError, StoreUnavailable
from holon.ports import Accept, Handback, LeaseRef, Progress, Touch, Touched

# An owner that did not answer is told again after this time (seconds).
AGAIN_S = 1.0


class Sayings:
    """Carries to owners what workers say. One call to each owner is under way at a time.

    Arguments:
        say: calls an owner.
        said: takes its reply.
        node_of: the node that owns a task; raises StoreUnavailable if none does at the moment.
    """

    def __init__(
        self,
        say: Callable[[str, Touch], Awaitable[Touched]],
        said: Callable[[Touched], object],
        node_of: Callable[[str], str | None],
    ) -> None:
        self._say = say
        self._said = said
        self._node_of = node_of
        self._accepts: dict[str, Accept] = {}
        self._extends: dict[str, LeaseRef] = {}
        self._handbacks: dict[str, Handback] = {}
        self._progress: dict[str, Progress] = {}
        self._some = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"Sayings(handbacks={len(self._handbacks)}, extends={len(self._extends)})"

    def take(self, touch: Touch, is_mine: Callable[[str], bool]) -> Touch:
        """Take over what is of other nodes' tasks; returns the rest."""
        self._accepts |= {one.lease.lease_id: one for one in touch.accepts if not is_mine(one.lease.task_id)}
        self._extends |= {one.lease_id: one for one in touch.extends if not is_mine(one.task_id)}
        for one in touch.handbacks:
            if not is_mine(one.lease.task_id):
                for words in (self._accepts, self._extends, self._progress):
                    words.pop(one.lease.lease_id, None)
                self._handbacks[one.lease.lease_id] = one
        for word in touch.progress:
            if not is_mine(word.lease.task_id):
                self._progress[word.lease.lease_id] = word.after(self._progress.get(word.lease.lease_id))
        return Touch(
            tuple(one for one in touch.accepts if is_mine(one.lease.task_id)),
            tuple(one for one in touch.extends if is_mine(one.task_id)),
            tuple(one for one in touch.handbacks if is_mine(one.lease.task_id)),
            tuple(one for one in touch.progress if is_mine(one.lease.task_id)),
            touch.credits,
        )

    def soon(self) -> None:
        """Carry what was taken over."""
        if self._accepts or self._extends or self._handbacks or self._progress:
            self._some.set()

    async def run(self) -> None:
        """Carry what is said, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            for node, touch in self._by_node().items():
                self._under_way[node] = asyncio.create_task(self._carry(node, touch), name="store-sayings")

    async def close(self) -> None:
        """End all calls that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _by_node(self) -> dict[str, Touch]:
        """Take out what is for owners that are not being called now."""
        parts: defaultdict[str, tuple[list[Accept], list[LeaseRef], list[Handback], list[Progress]]] = defaultdict(
            lambda: ([], [], [], [])
        )
        # The key is empty for what is this node's by now.
        waits = False
        for at, words in enumerate((self._accepts, self._extends, self._handbacks, self._progress)):
            for lease_id, word in list(words.items()):  # type: ignore[attr-defined]
                task_id = word.task_id if isinstance(word, LeaseRef) else word.lease.task_id
                try:
                    node = self._node_of(task_id)
                except StoreUnavailable:
                    waits = True
                    continue
                if node in self._under_way:
                    continue
                del words[lease_id]  # type: ignore[attr-defined]
                parts[node or ""][at].append(word)
        if waits:
            asyncio.get_running_loop().call_later(AGAIN_S, self._some.set)
        return {node: Touch(tuple(a), tuple(e), tuple(h), tuple(p)) for node, (a, e, h, p) in parts.items()}

    async def _carry(self, node: str, touch: Touch) -> None:
        try:
            self._said(await self._say(node, touch))
        except HolonError:
            # The newer word stands.
            self._accepts = {one.lease.lease_id: one for one in touch.accepts} | self._accepts
            self._extends = {one.lease_id: one for one in touch.extends} | self._extends
            self._handbacks = {one.lease.lease_id: one for one in touch.handbacks} | self._handbacks
            self._progress = {one.lease.lease_id: one for one in touch.progress} | self._progress
            await asyncio.sleep(AGAIN_S)
        finally:
            self._under_way.pop(node, None)
        self.soon()
