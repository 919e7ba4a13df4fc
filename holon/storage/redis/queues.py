"""The tasks of a match key in the order of their ids, a page at a time. A queue keeps them in the order of turns."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from heapq import nsmallest

from holon.ports import TaskRecord
from holon.storage.redis import answers
from holon.storage.redis.calls import Calls
from holon.stores.sealing import Seal, SealBroken

# A member of a queue is the number of its arrival, and then its id. With several partitions a number has so many
# digits; with one it may come to have more than at first, and each id begins with "0-".
_DIGITS_OF_MANY = 16
# So many members are looked at in one call.
_SCAN = 1_000
# So many ids are kept for the pages that follow: a queue is gone through once for so many tasks, not for each page.
KEPT = 10_000


class QueuePages:
    """Reads queues in pages; of the one that was read last the ids are kept.

    Arguments:
        link: where they are.
        seal: what tasks are sealed with; those that cannot be opened are left out.
        many: whether the store has several partitions.
    """

    def __init__(self, link: Calls, seal: Seal, *, many: bool) -> None:
        self._link = link
        self._seal = seal
        self._many = many
        self._key = ""
        self._ids: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"QueuePages({self._key}, {len(self._ids)} ids)"

    async def page(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        """At most `limit` waiting tasks of a match key, after one; empty when no more wait.

        What came to wait since the pages before were read may be missed. Raises as `Calls.ask`.
        """
        while True:
            following = self._following(key, after)[:limit]
            if not following:
                self._key, self._ids = key, await self._first(key, after)
                following = self._ids[:limit]
            found = [task for task in await asyncio.gather(*map(self._task, following)) if task is not None]
            waiting = [task for task in found if task.state == "queued" and task.need.key == key]
            if waiting or not following:
                return waiting
            # All of them have gone meanwhile.
            after = following[-1]

    def _following(self, key: str, after: str) -> Sequence[str]:
        """What is known of what comes next; nothing, where a first page is asked for."""
        return self._ids[bisect_right(self._ids, after) :] if after and key == self._key else ()

    async def _first(self, key: str, after: str) -> Sequence[str]:
        """The first ids after one, in their order."""
        ids: set[str] = set()
        cursor = b"0"
        while True:
            cursor, found = await self._link.ask("ZSCAN", f"q:{key}", cursor, "COUNT", _SCAN)
            ids.update(one for one in map(self._id_of, found[::2]) if one > after)
            if len(ids) > 2 * KEPT:
                ids = set(nsmallest(KEPT, ids))
            if cursor == b"0":
                return nsmallest(KEPT, ids)

    def _id_of(self, member: bytes) -> str:
        return member[_DIGITS_OF_MANY if self._many else member.index(b"-") - 1 :].decode()

    async def _task(self, task_id: str) -> TaskRecord | None:
        fields = await self._link.read("task", task_id)
        try:
            return answers.task_of(task_id, fields, self._seal) if fields else None
        except SealBroken:
            return None
