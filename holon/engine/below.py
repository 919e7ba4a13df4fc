"""What the holons below told last of the jobs that do this holon's tasks: kept in the store, for when they are away."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypeVar

import orjson
from msgspec import to_builtins

from holon.domain.digest import ChildDigest, Digest
from holon.domain.tree import Summary, Trouble, Visit
from holon.domain.value import Value, replace
from holon.errors import HolonError, ResourceExhausted
from holon.ports import MAX_DOCUMENT_BYTES, Change, Document, Put, Shared, change_document, place_of

log = logging.getLogger(__name__)

KIND = "summaries"
# Of so many tasks it is kept, and so many bytes; the oldest make room.
MOST = 2_000
MOST_BYTES = 16 * 2**20
# What is told of tasks that run is written so often at most; so many wait for that.
PAUSE_S = 1.0
MOST_WAITING = 200
DROPPED_AT_ONCE = 200
# What a seal adds is to fit in too.
_MOST_OF_ONE = MAX_DOCUMENT_BYTES - 1024

_FIELDS = frozenset(Summary.__struct_fields__)

T = TypeVar("T")


class Kept(Value):
    """What a holon told last of the job of a task; `final`: with the task's result, after which nothing changes it."""

    lease_id: str
    summary: Summary
    final: bool


# Of a task, what is kept and how that is written; or how many bytes that has, and its version.
_New: TypeAlias = tuple[str, Kept, bytes]
_Written: TypeAlias = tuple[str, tuple[int, int]]


class Sealing(Protocol):
    """Encrypts what is stored, where there is a key."""

    def seal(self, table: str, row: str, what: str, record: bytes) -> bytes:
        """A record for this place."""
        ...

    def open(self, table: str, row: str, what: str, stored: bytes) -> bytes:
        """The record that was sealed for this place; raises StoreUnavailable when it cannot be opened."""
        ...


class Below:
    """Keeps the newest summary of each task that a holon does.

    Arguments:
        store: where they are, as documents.
        now: the store's clock.
        keep_ms: for how long after the last word.
        seal: for what is stored; None leaves that as it is.
    """

    def __init__(self, store: Shared, now: Callable[[], int], keep_ms: int, seal: Sealing | None = None) -> None:
        self._store = store
        self._seal = seal
        self._now = now
        self._keep_ms = keep_ms
        # By task, how many bytes it has, and its version if that is known; the one written longest ago first.
        self._sizes: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._bytes = 0
        self._waiting: OrderedDict[str, Kept] = OrderedDict()
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

    async def find(self, task_id: str) -> Kept | None:
        """What was told last of the job of a task."""
        waiting = self._waiting.get(task_id)
        if waiting is not None:
            return waiting
        document = await self._store.document(KIND, task_id)
        return None if document is None else self._read(document)

    def later(self, task_id: str, lease_id: str, summary: Summary) -> None:
        """Keep what is told of a task that runs, soon; only the newest is."""
        if task_id not in self._waiting and len(self._waiting) >= MOST_WAITING:
            return
        self._waiting[task_id] = Kept(lease_id, self._in_time(summary), final=False)
        self._some.set()

    async def ended(self, told: Iterable[tuple[str, str, Summary]]) -> None:
        """Keep what was told with the results of tasks, for good: it is durable when this returns.

        Failures of the store are logged: the results count all the same.

        Arguments:
            told: of each the task, its lease, and what was told.
        """
        new: list[_New] = []
        for task_id, lease_id, summary in told:
            kept = Kept(lease_id, self._in_time(summary), final=True)
            is_first = task_id not in self._sizes and task_id not in self._waiting
            self._waiting.pop(task_id, None)
            if is_first:
                new.append((task_id, kept, self._text(task_id, kept)))
            else:
                await self._keep(task_id, kept)
        await self._keep_new(new)

    async def run(self) -> None:
        """Keep what comes in between, and let the oldest make room, until cancelled."""
        await self._recall()
        while True:
            await self._some.wait()
            self._some.clear()
            # What is told meanwhile is written after the pause.
            for task_id, kept in tuple(self._waiting.items()):
                if self._waiting.get(task_id) is kept:
                    await self._keep(task_id, kept)
                if self._waiting.get(task_id) is kept:
                    del self._waiting[task_id]
            await self._make_room()
            await asyncio.sleep(PAUSE_S)

    async def _recall(self) -> None:
        try:
            documents = await self._store.documents(KIND)
        except HolonError as error:
            log.warning("what holons below told before is not counted: %s", error.message)
            return
        written = self._sizes
        self._sizes, self._bytes = OrderedDict(), 0
        for one in sorted(documents, key=lambda one: one.version):
            self._count(one.key, len(one.value), one.version)
        for task_id, (size, version) in written.items():
            self._count(task_id, size, version)
        self._some.set()

    def _in_time(self, summary: Summary) -> Summary:
        """A clock below that is ahead does not tell of what is still to come."""
        return replace(summary, as_of=min(summary.as_of, self._now()))

    def _text(self, task_id: str, kept: Kept) -> bytes:
        text = _written(kept)
        return text if self._seal is None else self._seal.seal(*place_of(KIND, task_id), text)

    async def _keep_new(self, new: Sequence[_New]) -> None:
        """Keep what is told of tasks for the first time: all of it in one call, where nothing is in its way."""
        versions: Sequence[int | None] = [None] * len(new)
        if new:
            try:
                puts = [Put(task_id, text, 0, self._keep_ms) for task_id, _, text in new]
                versions = await self._store.put_documents(KIND, puts)
            except HolonError as error:
                # There are too many, or the store is away; what is tried alone says which.
                log.debug("what holons told of %d tasks is kept one by one: %s", len(new), error.message)
        for (task_id, kept, text), version in zip(new, versions, strict=True):
            if version is None:
                await self._keep(task_id, kept)
            else:
                self._counted(task_id, text, version)

    async def _keep(self, task_id: str, kept: Kept) -> None:
        text = self._text(task_id, kept)
        try:
            # Most are told of once.
            new = None if task_id in self._sizes else await self._bounded(lambda: self._put_first(task_id, text))
            if new is None and not await self._bounded(lambda: self._change(task_id, kept, text)):
                return
        except HolonError as error:
            facts = {"task_id": task_id}
            log.warning("what a holon told of task %s is not kept: %s", task_id, error.message, extra=facts)
            return
        self._counted(task_id, text, new or 0)

    def _counted(self, task_id: str, text: bytes, version: int) -> None:
        self._count(task_id, len(text), version)
        if len(self._sizes) > MOST or self._bytes > MOST_BYTES:
            self._some.set()

    async def _put_first(self, task_id: str, text: bytes) -> int | None:
        return await self._store.put_document(KIND, task_id, text, version=0, expires_in=self._keep_ms)

    async def _change(self, task_id: str, kept: Kept, text: bytes) -> bool:
        """Whether it is kept now: what is there may have to stay."""

        def changed(document: Document | None) -> tuple[bool, Change | None]:
            before = None if document is None else self._read(document)
            stays = before is not None and _stays(before, kept)
            return not stays, None if stays else Change(text, self._keep_ms)

        return await change_document(self._store, KIND, task_id, changed)

    async def _bounded(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write; where there are as many as there may be, for other nodes have some too, in the place of others."""
        while True:
            try:
                return await write()
            except ResourceExhausted:
                if not await self._drop_oldest():
                    raise

    def _read(self, document: Document) -> Kept | None:
        try:
            text = document.value
            return _read(text if self._seal is None else self._seal.open(*place_of(KIND, document.key), text))
        except (HolonError, ValueError, TypeError, KeyError, AttributeError) as error:
            facts = {"task_id": document.key}
            log.warning("what a holon told of task %s cannot be read: %r", document.key, error, extra=facts)
            return None

    def _count(self, task_id: str, size: int, version: int) -> None:
        self._bytes += size - self._sizes.pop(task_id, (0, 0))[0]
        self._sizes[task_id] = (size, version)

    async def _make_room(self) -> None:
        try:
            while surplus := self._surplus():
                await self._drop(surplus)
        except HolonError as error:
            log.warning("what holons below told long ago is deleted later: %s", error.message)

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


def _stays(before: Kept, new: Kept) -> bool:
    """Whether what is kept is not to be changed: what was told at the end, or later than this."""
    if before.lease_id != new.lease_id:
        return False
    return before.final or (not new.final and before.summary.as_of > new.summary.as_of)


def _written(kept: Kept) -> bytes:
    summary = kept.summary
    while True:
        told = {"lease_id": kept.lease_id, "final": kept.final, "summary": summary}
        text = orjson.dumps(to_builtins(told, builtin_types=(bytes,)), default=bytes.hex)
        if len(text) <= _MOST_OF_ONE:
            return text
        summary = shorter(summary)


def shorter(summary: Summary) -> Summary:
    """The same with less in it: half of the states, and where there are none, without the digests and errors below.

    Where there are none of those either, half of the counts.
    """
    if summary.states:
        return replace(summary, states=summary.states[len(summary.states) // 2 + 1 :], truncated=True)
    if summary.digest is not None and summary.digest.children:
        return replace(summary, digest=replace(summary.digest, children=()), truncated=True)
    if summary.errors:
        return replace(summary, errors=summary.errors[:-1], truncated=True)
    tasks, jobs = summary.tasks[: len(summary.tasks) // 2], summary.jobs[: len(summary.jobs) // 2]
    return replace(summary, tasks=tasks, jobs=jobs, truncated=True)


def _read(text: bytes) -> Kept:
    fields = orjson.loads(text)
    lease_id, final, fields = fields["lease_id"], fields["final"], fields["summary"]
    # A later release may tell more.
    fields = {name: told for name, told in fields.items() if name in _FIELDS}
    digest = fields["digest"]
    return Kept(
        lease_id,
        Summary(
            **fields
            | {
                "tasks": tuple((status, count) for status, count in fields["tasks"]),
                "jobs": tuple((status, count) for status, count in fields["jobs"]),
                "errors": tuple(Trouble(**one) for one in fields["errors"]),
                "states": tuple(Visit(**one) for one in fields["states"]),
                "digest": None if digest is None else _digest(digest),
            }
        ),
        final,
    )


def _digest(fields: dict[str, Any]) -> Digest:
    children = tuple(
        ChildDigest(one["holon_id"], one["job_id"], bytes.fromhex(one["sha256"])) for one in fields["children"]
    )
    return Digest(fields["events"], fields["first"], fields["last"], bytes.fromhex(fields["sha256"]), children)
