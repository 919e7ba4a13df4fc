"""What sessions said, by the partitions that it is about. One that is away is told when it is back.

Each partition is told on its own, one batch after the other. What is said while it still has one waits for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from holon.errors import StoreUnavailable
from holon.ports import Progress, Touch, Touched
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions
from holon.storage.waiting import RETRY_AFTER_S

# How long a partition that does not answer holds up those that do (seconds): much shorter than an offer is good for.
PATIENCE_S = 0.5
NOTHING = Touch()


class Sayings:
    """What partitions are still to be told: of each lease and of each session's credits the newest word only.

    Arguments:
        partitions: all of them.
        again: called when there is something to tell, or to hear, that the last batch did not wait for.
    """

    def __init__(self, partitions: Partitions, again: Callable[[], None]) -> None:
        self._partitions = partitions
        self._again = again
        self._untold: dict[Partition, Touch] = {}
        # What they are told now, or were told with a reply that nobody has heard yet.
        self._telling: dict[Partition, tuple[Touch, asyncio.Task[Touched]]] = {}
        # When the next batch is asked for.
        self._later: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Sayings(untold to {len(self._untold)}, telling {len(self._telling)})"

    async def tell(self, touch: Touch) -> Sequence[Touched]:
        """Tell each partition its part; answers with what there is to hear, also of what was told before.

        One that is away, or does not answer soon, is told beside: that is heard with a later batch.

        Raises:
            StoreUnavailable: none could be told.
        """
        try:
            return await self._tell(touch)
        finally:
            # What this batch has not heard is heard with the next, however this one ended.
            for _, task in self._telling.values():
                task.remove_done_callback(self._answered)
                task.add_done_callback(self._answered)

    async def close(self) -> None:
        """Wait for nobody's answer any more, and ask for no more batches; the partitions are closed."""
        try:
            for _, task in self._telling.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in self._telling.values()), return_exceptions=True)
        finally:
            if self._later is not None:
                self._later.cancel()

    async def _tell(self, touch: Touch) -> Sequence[Touched]:
        heard, lost = self._heard()
        begun: list[asyncio.Task[Touched]] = []
        for partition, what in self._by_partition(touch).items():
            if partition in self._telling:
                self._untold[partition] = what
                continue
            task = asyncio.create_task(partition.touch(what, ()), name="store-sayings")
            self._telling[partition] = what, task
            if not partition.away:
                begun.append(task)
        if begun:
            await asyncio.wait(begun, timeout=PATIENCE_S)
        while True:
            more, failure = self._heard()
            heard += more
            lost = failure or lost
            out = [task for _, task in self._telling.values()]
            if heard or not out:
                break
            await asyncio.wait(out, return_when=asyncio.FIRST_COMPLETED)
        if lost is not None:
            if not heard:
                raise lost
            self._soon(lost)
        return heard

    def _heard(self) -> tuple[list[Touched], StoreUnavailable | None]:
        """The replies that are there; what was not told is with the next, and the failure is the second answer."""
        heard: list[Touched] = []
        failure: StoreUnavailable | None = None
        for partition, (what, task) in list(self._telling.items()):
            if not task.done():
                continue
            del self._telling[partition]
            try:
                heard.append(task.result())
            except StoreUnavailable as error:
                failure = error
                said = self._untold.get(partition)
                self._untold[partition] = what if said is None else _together(what, said)
            else:
                partition.stops_taken()
        return heard, failure

    def _answered(self, task: asyncio.Task[Touched]) -> None:
        """One that no batch waited for is heard with the next, which comes soon if there is something in it."""
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, StoreUnavailable):
            self._soon(error)
            return
        waits = any(self._untold.get(one, NOTHING) != NOTHING for one, (_, its) in self._telling.items() if its is task)
        if waits or error is not None or task.result() != Touched():
            self._again()

    def _soon(self, failure: StoreUnavailable) -> None:
        """Whoever was not told is asked again soon, and nobody else has to wait for it."""
        if self._later is None:
            after = failure.retry_after or RETRY_AFTER_S
            self._later = asyncio.get_running_loop().call_later(after, self._ask_again)

    def _ask_again(self) -> None:
        self._later = None
        self._again()

    def _by_partition(self, touch: Touch) -> Mapping[Partition, Touch]:
        """What each partition is to be told now: what was said, and what it was not told before."""
        split = self._partitions.split
        accepts = split(touch.accepts, lambda one: one.lease.task_id)
        extends = split(touch.extends, lambda ref: ref.task_id)
        handbacks = split(touch.handbacks, lambda one: one.lease.task_id)
        progress = split(touch.progress, lambda one: one.lease.task_id)
        said = {
            one: Touch(
                tuple(accepts[one]), tuple(extends[one]), tuple(handbacks[one]), tuple(progress[one]), touch.credits
            )
            for one in self._partitions
        }
        untold, self._untold = self._untold, {}
        return {one: _together(untold[one], new) if one in untold else new for one, new in said.items()}


def _together(before: Touch, after: Touch) -> Touch:
    back = {one.lease.lease_id: one for one in (*before.handbacks, *after.handbacks)}

    progress: dict[str, Progress] = {}
    for one in (*before.progress, *after.progress):
        progress[one.lease.lease_id] = one.after(progress.get(one.lease.lease_id))

    accepts = {one.lease.lease_id: one for one in (*before.accepts, *after.accepts)}
    extends = {ref.lease_id: ref for ref in (*before.extends, *after.extends)}
    return Touch(
        accepts=tuple(one for lease_id, one in accepts.items() if lease_id not in back),
        extends=tuple(ref for lease_id, ref in extends.items() if lease_id not in back),
        handbacks=tuple(back.values()),
        progress=tuple(progress.values()),
        credits=tuple({one[1]: one for one in (*before.credits, *after.credits)}.values()),
    )
