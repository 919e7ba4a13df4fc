"""Documents, quotas and rate windows of a store over the core: shared records and counters of its row store."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from holon.errors import ResourceExhausted, TooLarge
from holon.ports import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, Count, Counted, Document, Note, Quota
from holon.storage.windows import DrawnWindows, Windows
from holon.stores.port import Change, Draw, Drawn, Record, RowStore

T = TypeVar("T")

MAX_KEY_BYTES = 512
_WORD = re.compile(r"[a-z0-9_]{1,64}")
# Records of documents have this before their kind. Quotas are counters of this kind.
DOCUMENT, QUOTA = "document.", "quota"
# At most this many expired records and counters are deleted in one call.
AT_A_TIME = 1_000
# A node that is not alone uses this part of what a kind has left before it counts again. So this many nodes make at
# most one document each too many.
PART = 16
# Clocks of nodes differ. The count of a quota is kept for this long after its period (milliseconds).
KEPT_LONGER = 3_600_000


class Ask(Protocol):
    """Asks a row store."""

    async def __call__(self, call: Callable[[RowStore], Awaitable[T]], /) -> T:
        """The reply to a call. Raises StoreUnavailable if there is none in time."""
        ...


class SharedRecords:
    """What nodes share beside jobs; see `holon.ports.Shared`. Who writes a document seals what is secret of it.

    Arguments:
        ask: asks the row store.
        changed: called with the kinds of documents that changed, once that is durable.
        now: the store's clock.
        alone: whether no other process writes to the store. Then rate windows are counted in memory.
    """

    def __init__(
        self,
        ask: Ask,
        changed: Callable[[frozenset[str]], object],
        now: Callable[[], int],
        *,
        alone: Callable[[], bool],
    ) -> None:
        self._ask = ask
        self._changed = changed
        self._now = now
        self._alone = alone
        self._rooms: defaultdict[str, _Room] = defaultdict(_Room)
        self._windows = Windows()
        self._drawn = DrawnWindows(self._draw)

    def __repr__(self) -> str:
        return f"SharedRecords(kinds={sorted(self._rooms)})"

    # Documents -------------------------------------------------------------------------------------------------

    async def document(self, kind: str, key: str) -> Document | None:
        """One document; None if there is none, or it has expired."""
        check_document(kind, key)
        found = await self._ask(lambda rows: rows.records(f"{DOCUMENT}{kind}", [key]))
        return _document(found[0]) if found else None

    async def documents(self, kind: str) -> Sequence[Document]:
        """All documents of a kind that have not expired, ordered by key."""
        check_document(kind)
        found = await self._ask(lambda rows: rows.records(f"{DOCUMENT}{kind}"))
        return [_document(one) for one in sorted(found, key=lambda one: one.key)]

    async def write(self, notes: Sequence[Note | None]) -> Sequence[int | None]:
        """Write documents in one call.

        Returns:
            for each its new version, a negative one if it was deleted; None: there is no note, or its document has
            another version and nothing was written.
        Raises:
            TooLarge, ResourceExhausted, ValueError: as `Shared.put_document`; nothing was written.
            StoreUnavailable: some of them may have been written.
        """
        some = [note for note in notes if note is not None]
        if not some:
            return [None] * len(notes)
        for note in some:
            check_document(note.kind, note.put.key, note.put.value)
        async with self._room_for(some):
            answers = iter(await self._ask(lambda rows: rows.exchange([_change(note) for note in some])))
        versions = [None if note is None else _version(note, *next(answers)) for note in notes]
        pairs = zip(notes, versions, strict=True)
        kinds = frozenset([note.kind for note, version in pairs if note is not None and version is not None])
        if kinds:
            self._changed(kinds)
        return versions

    @asynccontextmanager
    async def _room_for(self, notes: Iterable[Note]) -> AsyncIterator[None]:
        """Have room for the new documents among these while the block makes them."""
        new: defaultdict[str, set[str]] = defaultdict(set)
        for note in notes:
            if note.put.version == 0 and note.put.value is not None:
                new[note.kind].add(note.put.key)
        taken: list[tuple[_Room, int]] = []
        try:
            # In the order of their names: so no two callers wait for each other.
            for kind, keys in sorted(new.items()):
                taken.append(await self._take_room(kind, keys))
            yield
        finally:
            for room, n in taken:
                room.making -= n
                if not room.making:
                    room.idle.set()

    async def _take_room(self, kind: str, keys: Collection[str]) -> tuple[_Room, int]:
        """Take room for documents of these keys, and return how much.

        Raises:
            ResourceExhausted: (TOO_MANY_DOCUMENTS) there is not enough.
        """
        room, new = self._rooms[kind], len(keys)
        async with room.turn:
            if room.left < new:
                # A count may miss documents that are being made.
                await room.idle.wait()
                free = await self._free(kind)
                if free < new:
                    await self.expire()
                    free = await self._free(kind)
                if free < new:
                    # A document that is there is not made.
                    new -= len(await self._ask(lambda rows: rows.records(f"{DOCUMENT}{kind}", list(keys))))
                if free < new:
                    raise too_many_documents(kind)
                room.left = free if self._alone() else max(new, free // PART)
            room.left -= new
            room.making += new
            room.idle.clear()
        return room, new

    async def _free(self, kind: str) -> int:
        return MAX_DOCUMENTS - await self._ask(lambda rows: rows.count_records(f"{DOCUMENT}{kind}"))

    # Counters --------------------------------------------------------------------------------------------------

    async def count_jobs(self, quotas: Sequence[Quota]) -> Sequence[bool]:
        """Count one more job against each of these quotas, in their order; for each whether that had one left."""
        now = self._now()
        draws = [
            Draw(QUOTA, f"{one.period}/{one.key}", 1, one.limit, max(0, one.expires_at - now) + KEPT_LONGER)
            for one in quotas
        ]
        return [drawn.granted for drawn in await self._draw(draws)]

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        """Count calls in their rate windows; see `Shared.count`."""
        if self._alone():
            now = self._now()
            return [self._windows.count(item, now) for item in items]
        return await self._drawn.count(items, self._now)

    async def _draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        return await self._ask(lambda rows: rows.draw(draws)) if draws else ()

    async def expire(self) -> None:
        """Delete all that has expired."""
        while await self._ask(lambda rows: rows.expire(AT_A_TIME)) >= AT_A_TIME:
            pass


class _Room:
    """How many documents of one kind may be made before they have to be counted again.

    Attributes:
        making: how many are being made.
        idle: set while none is.
    """

    def __init__(self) -> None:
        self.left = 0
        self.making = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"_Room(left={self.left}, making={self.making})"


def check_document(kind: str, key: str = "any", value: bytes | None = None) -> None:
    """Check the kind, key and value of a document; raises as `Shared.put_document`."""
    if not _WORD.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of document: lower-case letters, digits and _, 1 to 64 of them")
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
        raise ValueError(
            f"the key of a document of kind {kind} has {len(key.encode())} bytes, not 1 to {MAX_KEY_BYTES}"
        )
    if value is not None and len(value) > MAX_DOCUMENT_BYTES:
        raise TooLarge(
            f"document {key!r} of kind {kind} has {len(value)} bytes, over the limit of {MAX_DOCUMENT_BYTES}",
            code="LIMIT_EXCEEDED",
        )


def too_many_documents(kind: str) -> ResourceExhausted:
    """The error for one more document of a kind that is full."""
    return ResourceExhausted(
        f"the store has {MAX_DOCUMENTS} documents of kind {kind}, the most allowed; delete some, or let them expire",
        code="TOO_MANY_DOCUMENTS",
    )


def _change(note: Note) -> Change:
    put = note.put
    return Change(f"{DOCUMENT}{note.kind}", put.key, put.version, put.value, put.expires_in)


def _version(note: Note, made: bool, record: Record | None) -> int | None:
    """The version after a change; None if it was not made."""
    if not made:
        return None
    # A deletion has no version in the row store. That of the document was never negative, and is deleted once.
    return record.version if record is not None else -max(1, note.put.version)


def _document(record: Record) -> Document:
    return Document(record.kind.removeprefix(DOCUMENT), record.key, record.version, record.value, record.expires_at)
