"""What the holons below told last of the jobs that do this holon's tasks: kept in the store, for when they are away."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TypeAlias, TypeVar

from holon.domain.tree import Summary
from holon.engine.kept import KIND, Kept, Record, Sealing, Texts, stays
from holon.errors import HolonError, ResourceExhausted
from holon.ports import Change, Document, Put, Shared, change_document

log = logging.getLogger(__name__)

# Of so many tasks it is kept, and so many bytes; the oldest make room.
MOST = 2_000
MOST_BYTES = 16 * 2**20
# What is told of tasks that run is written so often at most; so many wait for that.
PAUSE_S = 1.0
MOST_WAITING = 200
DROPPED_AT_ONCE = 200

T = TypeVar("T")

# Of a task, what is kept and how that is written; or how many bytes that has, and its version.
_New: TypeAlias = tuple[str, Record, bytes]
_Written: TypeAlias = tuple[str, tuple[int, int]]


def _earlier_key(task_id: str, generation: int) -> str:
    """Under which key it is kept what was told of an earlier generation of a task."""
    return f"{task_id} {generation}"


class Below:
    """Keeps the newest summary of each task that a holon does, and of each earlier generation of it.

    Arguments:
        store: where they are, as documents.
        now: the store's clock.
        keep_ms: for how long after the last word.
        read: what was told, of how it came; raises InvalidArgument.
        seal: for what is stored; None leaves that as it is.
    """

    def __init__(
        self,
        store: Shared,
        now: Callable[[], int],
        keep_ms: int,
        read: Callable[[bytes], Summary],
        seal: Sealing | None = None,
    ) -> None:
        self._store = store
        self._texts = Texts(read, seal)
        self._now = now
        self._keep_ms = keep_ms
        # By task, how many bytes it has, and its version if that is known; the one written longest ago first.
        self._sizes: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._bytes = 0
        self._waiting: OrderedDict[str, Record] = OrderedDict()
        # Whether others may have written some; and whether they have.
        self._unsure = True
        self._of_others = False
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"Below(kept={len(self._sizes)}, bytes={self._bytes}, waiting={len(self._waiting)})"

    @property
    def any(self) -> bool:
        """Whether a holon below has told this node anything, or had told anything when it started."""
        return bool(self._sizes or self._waiting)

    @property
    def may_have_any(self) -> bool:
        """Whether a holon below has told anything, or the store is to be asked for that."""
        return self._unsure or self._of_others or self.any

    async def has_any(self) -> bool:
        """Whether a holon below has told anything, whichever node of this one; the store is asked after hints only.

        Raises:
            StoreUnavailable: the store is away; it is asked again.
        """
        if self._unsure and not (self._of_others or self.any):
            # A hint that comes meanwhile tells of more.
            self._unsure = False
            try:
                self._of_others = bool(await self._store.documents(KIND))
            except BaseException:
                self._unsure = True
                raise
        return self._of_others or self.any

    def changed(self, kinds: frozenset[str]) -> None:
        """Documents of these kinds have changed, perhaps by another node."""
        self._unsure |= KIND in kinds

    async def find(self, task_id: str, generation: int | None = None) -> Kept | None:
        """What was told last of the job of a task, or of that of one of its generations."""
        kept = await self._find(task_id)
        if generation is None or (kept is not None and kept.generation == generation):
            return kept
        return await self._find(_earlier_key(task_id, generation))

    async def _find(self, key: str) -> Kept | None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            return self._texts.kept(key, waiting)
        document = await self._store.document(KIND, key)
        return None if document is None else self._texts.read(document)

    def later(self, task_id: str, lease_id: str, told: bytes, generation: int) -> None:
        """Keep what is told of a task that runs, soon; only the newest is."""
        if task_id not in self._waiting and len(self._waiting) >= MOST_WAITING:
            return
        self._waiting[task_id] = Record(lease_id, told, self._now(), final=False, generation=generation)
        self._some.set()

    async def ended(self, told: Iterable[tuple[str, str, bytes, int]]) -> None:
        """Keep what was told with the results of tasks, for good: it is durable when this returns.

        Failures of the store are logged: the results count all the same.

        Arguments:
            told: of each the task, its lease, what was told, of MOST_OF_ONE bytes at most, and the task's generation.
        """
        new: list[_New] = []
        now = self._now()
        for task_id, lease_id, summary, generation in told:
            record = Record(lease_id, summary, now, final=True, generation=generation)
            is_first = task_id not in self._sizes and task_id not in self._waiting
            self._waiting.pop(task_id, None)
            if is_first:
                new.append((task_id, record, self._texts.of(task_id, record)))
            else:
                await self._keep(task_id, record)
        await self._keep_new(new)

    async def run(self) -> None:
        """Keep what comes in between, and let the oldest make room, until cancelled."""
        await self._recall()
        while True:
            await self._some.wait()
            self._some.clear()
            # What is told meanwhile is written after the pause.
            for task_id, record in tuple(self._waiting.items()):
                if self._waiting.get(task_id) is record:
                    await self._keep(task_id, record)
                if self._waiting.get(task_id) is record:
                    del self._waiting[task_id]
            await self._make_room()
            await asyncio.sleep(PAUSE_S)

    async def _recall(self) -> None:
        try:
            documents = await self._store.documents(KIND)
        except HolonError as error:
            log.warning("what holons below reported earlier is not counted: %s", error.message)
            return
        written = self._sizes
        self._sizes, self._bytes = OrderedDict(), 0
        for one in sorted(documents, key=lambda one: one.version):
            self._count(one.key, len(one.value), one.version)
        for task_id, (size, version) in written.items():
            self._count(task_id, size, version)
        self._some.set()

    async def _keep_new(self, new: Sequence[_New]) -> None:
        """Keep what is told of tasks for the first time: all of it in one call, where nothing is in its way."""
        versions: Sequence[int | None] = [None] * len(new)
        if new:
            try:
                puts = [Put(task_id, text, 0, self._keep_ms) for task_id, _, text in new]
                versions = await self._store.put_documents(KIND, puts)
            except HolonError as error:
                # There are too many, or the store is away; what is tried alone says which.
                log.debug("what holons reported about %d tasks is stored one by one: %s", len(new), error.message)
        for (task_id, record, text), version in zip(new, versions, strict=True):
            if version is None:
                await self._keep(task_id, record)
            else:
                self._counted(task_id, text, version)

    async def _keep(self, task_id: str, record: Record) -> None:
        text = self._texts.of(task_id, record)
        try:
            if record.generation > 1:
                await self._keep_earlier(task_id, record.generation)
            # Most are told of once.
            new = None if task_id in self._sizes else await self._bounded(lambda: self._put_first(task_id, text))
            if new is None and not await self._bounded(lambda: self._change(task_id, record, text)):
                return
        except HolonError as error:
            facts = {"task_id": task_id}
            log.warning("what a holon reported about task %s is not stored: %s", task_id, error.message, extra=facts)
            return
        self._counted(task_id, text, new or 0)

    async def _keep_earlier(self, task_id: str, generation: int) -> None:
        """Keep what is there of an earlier generation of a task, as this one is about to take its place."""
        document = await self._store.document(KIND, task_id)
        before = None if document is None else self._texts.record(document)
        if before is None or not 0 < before.generation < generation:
            return
        key = _earlier_key(task_id, before.generation)
        text = self._texts.of(key, before)
        version = await self._bounded(lambda: self._put_first(key, text))
        if version is not None:
            self._counted(key, text, version)

    def _counted(self, task_id: str, text: bytes, version: int) -> None:
        self._count(task_id, len(text), version)
        if len(self._sizes) > MOST or self._bytes > MOST_BYTES:
            self._some.set()

    async def _put_first(self, task_id: str, text: bytes) -> int | None:
        return await self._store.put_document(KIND, task_id, text, version=0, expires_in=self._keep_ms)

    async def _change(self, task_id: str, record: Record, text: bytes) -> bool:
        """Whether it is kept now: what is there may have to stay."""
        kept = self._texts.kept(task_id, record)

        def changed(document: Document | None) -> tuple[bool, Change | None]:
            before = None if document is None else self._texts.read(document)
            as_it_is = kept is None or (before is not None and stays(before, kept))
            return not as_it_is, None if as_it_is else Change(text, self._keep_ms)

        return await change_document(self._store, KIND, task_id, changed)

    async def _bounded(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write; where there are as many as there may be, for other nodes have some too, in the place of others."""
        while True:
            try:
                return await write()
            except ResourceExhausted:
                if not await self._drop_oldest():
                    raise

    def _count(self, task_id: str, size: int, version: int) -> None:
        self._bytes += size - self._sizes.pop(task_id, (0, 0))[0]
        self._sizes[task_id] = (size, version)

    async def _make_room(self) -> None:
        try:
            while surplus := self._surplus():
                await self._drop(surplus)
        except HolonError as error:
            log.warning("old reports of holons below are deleted later: %s", error.message)

    def _surplus(self) -> Sequence[_Written]:
        """The oldest that are to make room, as many as are deleted in one call."""
        surplus: list[_Written] = []
        left, size = len(self._sizes), self._bytes
        for one in islice(self._sizes.items(), DROPPED_AT_ONCE):
            if left <= MOST and size <= MOST_BYTES:
                break
            surplus.append(one)
            left, size = left - 1, size - one[1][0]
        return surplus

    async def _drop_oldest(self) -> bool:
        oldest = list(islice(self._sizes.items(), 1))
        await self._drop(oldest)
        return bool(oldest)

    async def _drop(self, written: Sequence[_Written]) -> None:
        known = [Put(task_id, None, version) for task_id, (_, version) in written if version]
        gone = dict(zip((one.key for one in known), await self._store.put_documents(KIND, known), strict=True))
        for task_id, (size, version) in written:
            if gone.get(task_id) is None:
                await change_document(self._store, KIND, task_id, lambda _: (None, Change(None)))
            if self._sizes.get(task_id) == (size, version):
                del self._sizes[task_id]
                self._bytes -= size
