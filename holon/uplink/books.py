"""The uplink: which job does which task of the parent's, under which lease: in the store, for whichever node links."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from itertools import islice

import orjson

from holon.engine.requests import Accepted
from holon.errors import Aborted, HolonError, InvalidArgument, NotFound
from holon.ports import Document, Note, Put, Shared
from holon.uplink.alone import Alone
from holon.uplink.delegation import Delegation
from holon.uplink.tenure import TenureLost
from holon.worker.leases import Lease

log = logging.getLogger(__name__)

KIND = "delegations"
# What is settled is deleted many at a time, soon. What a node that ends leaves of it is found at the next start, and
# its result answered as one that is not needed.
GATHER_S = 0.25
DELETED_AT_ONCE = 500
_RETRY_S = 1.0
# How long a task that was taken back may still come again to this holon, and of how many that is remembered.
REMEMBERED_MS = 86_400_000
MAX_REMEMBERED = 1_000


async def owed(store: Shared) -> frozenset[str]:
    """The jobs of tasks that are not settled: their results are still to be told, by whichever node links."""
    entries = [_read(one) for one in await store.documents(KIND) if one.expires_at is None]
    return frozenset(entry.job_id for entry in entries if entry is not None)


class Books:
    """The delegations of this holon, as documents: one for each task that is not settled.

    Beside them those that were taken back, for a while; of too many the oldest are forgotten.
    """

    def __init__(self, store: Shared) -> None:
        self._store = store
        # Of the documents that were read or written here; whose document has another has lost the link.
        self._versions: dict[str, int] = {}
        # By task: which was written last, or was to be.
        self._newest: dict[str, Delegation] = {}
        self._remembered: OrderedDict[str, None] = OrderedDict()
        # Had while a task's document is read, written or deleted.
        self._alone = Alone()
        # Settled, and to be deleted.
        self._settled: dict[str, None] = {}
        self._some = asyncio.Event()
        # What was to be written when the store failed: it may be there. None: it was to be deleted.
        self._unsure: dict[str, bytes | None] = {}

    def __repr__(self) -> str:
        counts = f"known={len(self._versions)}, settled={len(self._settled)}, remembered={len(self._remembered)}"
        return f"Books({counts})"

    async def load(self) -> list[Delegation]:
        """All that are under way, or not settled; those that are being withdrawn included."""
        documents = await self._store.documents(KIND)
        self._versions = {one.key: one.version for one in documents}
        old = sorted((one for one in documents if one.expires_at is not None), key=lambda one: one.expires_at or 0)
        self._remembered = OrderedDict((one.key, None) for one in old)
        entries = [_read(one) for one in documents if one.expires_at is None]
        self._newest = {entry.task_id: entry for entry in entries if entry is not None}
        return list(self._newest.values())

    def may_have(self, task_id: str) -> bool:
        """Whether there may be anything of a task."""
        return task_id in self._versions

    async def find(self, task_id: str) -> Delegation | None:
        """The one of a task.

        Nobody but the node that links writes them: of a task that it has not seen since `load` there is none.
        """
        if task_id not in self._versions or task_id in self._settled:
            return None
        await self._alone.take(task_id)
        try:
            document = await self._store.document(KIND, task_id)
            if document is None:
                self._gone(task_id)
                return None
            self._versions[task_id] = document.version
        finally:
            self._alone.leave(task_id)
        return _read(document)

    async def write(self, entry: Delegation, unless: Callable[[], bool] = lambda: False) -> None:
        """Keep an entry as it is now, until its task is settled.

        Arguments:
            unless: asked when nobody else is at the task any more; where that is so by then, nothing is done.
        Raises:
            TenureLost: another node has written it meanwhile: the link is that one's.
            ResourceExhausted: (TOO_MANY_DOCUMENTS) there are as many as there may be.
        """
        await self._alone.take(entry.task_id)
        try:
            if unless():
                return
            self._newest[entry.task_id] = entry
            await self._put(entry, None)
        finally:
            self._alone.leave(entry.task_id)

    async def write_with_jobs(
        self,
        entries: Sequence[Delegation],
        make: Callable[[Sequence[Note]], Awaitable[Sequence[Accepted | HolonError]]],
    ) -> Sequence[Accepted | HolonError]:
        """As `write`, each together with the creation of its job.

        Arguments:
            entries: of different tasks.
            make: creates them. Why one could not be created is answered; where that says that nothing was done, nothing
                was written.
        """
        taken: list[str] = []
        try:
            for entry in entries:
                await self._alone.take(entry.task_id)
                taken.append(entry.task_id)
            texts = [orjson.dumps(entry) for entry in entries]
            seen = [await self._version(task_id) for task_id in taken]
            for task_id in taken:
                self._keep(task_id)
            made = await make([Note(KIND, Put(*put)) for put in zip(taken, texts, seen, strict=True)])
            for put in zip(entries, texts, seen, made, strict=True):
                self._made(*put)
        finally:
            for task_id in taken:
                self._alone.leave(task_id)
        return made

    def _made(self, entry: Delegation, text: bytes, seen: int, made: Accepted | HolonError) -> None:
        """What became of an entry that was to be written with its job."""
        task_id = entry.task_id
        if isinstance(made, NotFound | InvalidArgument):
            if not seen:
                self._gone(task_id)
            return
        if isinstance(made, Aborted):
            raise _lost(task_id) from made
        self._newest[task_id] = entry
        if isinstance(made, HolonError):
            self._unsure[task_id] = text
        elif made.noted is not None:
            self._versions[task_id] = made.noted

    async def remember(self, entry: Delegation, lease: Lease) -> None:
        """Nothing is owed for the task any more; but it may come again. Raises as `write`.

        Arguments:
            lease: under which that is so. Where the task has come again meanwhile, under another lease or for another
                job, nothing is done.
        """
        await self._alone.take(entry.task_id)
        try:
            if entry.lease != lease or self._newest.get(entry.task_id) is not entry:
                return
            await self._put(entry, REMEMBERED_MS)
        finally:
            self._alone.leave(entry.task_id)
        self._remembered[entry.task_id] = None
        while len(self._remembered) > MAX_REMEMBERED:
            # By `run`: who waits for this is not to wait for what concerns another task.
            self._settled[self._remembered.popitem(last=False)[0]] = None
            self._some.set()

    async def forget(self, entry: Delegation) -> None:
        """Nothing has to be known of the task any more."""
        self._remembered.pop(entry.task_id, None)
        await self._delete(entry.task_id)

    def settle(self, entry: Delegation) -> None:
        """The same of one whose result was acknowledged; what is in the store of it is deleted by `run`, soon."""
        self._remembered.pop(entry.task_id, None)
        self._settled[entry.task_id] = None
        self._some.set()

    async def run(self) -> None:
        """Delete what is settled, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER_S)
            self._some.clear()
            while self._settled:
                try:
                    if not await self._delete_settled():
                        # What is being written may be settled all the same.
                        await asyncio.sleep(GATHER_S)
                except HolonError as error:
                    log.warning(
                        "%d finished tasks of the parent are still stored: %s", len(self._settled), error.message
                    )
                    await asyncio.sleep(error.retry_after or _RETRY_S)

    async def _delete_settled(self) -> bool:
        """Delete some of what nobody is at; whether there was any."""
        some = [one for one in islice(self._settled, DELETED_AT_ONCE) if self._alone.take_if_free(one)]
        if not some:
            return False
        try:
            for task_id in self._unsure.keys() & some:
                await self._version(task_id)
            puts = [Put(task_id, None, self._versions.get(task_id, 0)) for task_id in some]
            try:
                await self._store.put_documents(KIND, puts)
            except HolonError:
                self._unsure |= dict.fromkeys(some)
                raise
            for task_id in some:
                self.forgotten(task_id)
        finally:
            for task_id in some:
                self._alone.leave(task_id)
        return True

    def forgotten(self, task_id: str) -> None:
        """Nothing of a settled task is in the store any more."""
        self._settled.pop(task_id, None)
        self._gone(task_id)

    def _gone(self, task_id: str) -> None:
        """There is nothing of a task in the store."""
        self._versions.pop(task_id, None)
        self._newest.pop(task_id, None)

    def _keep(self, task_id: str) -> None:
        """From here on it is not to be forgotten: what was, or is too old, is about to be written anew."""
        self._settled.pop(task_id, None)
        self._remembered.pop(task_id, None)

    async def _put(self, entry: Delegation, expires_in: int | None) -> None:
        """Write it; its turn is had."""
        task_id = entry.task_id
        text, seen = orjson.dumps(entry), await self._version(task_id)
        self._keep(task_id)
        try:
            version = await self._store.put_document(KIND, task_id, text, version=seen, expires_in=expires_in)
        except HolonError:
            self._unsure[task_id] = text
            raise
        if version is None:
            raise _lost(task_id)
        self._versions[task_id] = version

    async def _version(self, task_id: str) -> int:
        """The version to be written over. From here on there may be a document, whatever the store answers."""
        if task_id in self._unsure:
            text, document = self._unsure[task_id], await self._store.document(KIND, task_id)
            # What was asked for was done, though nobody said so.
            if document is not None and document.value == text:
                self._versions[task_id] = document.version
            elif document is None and text is None:
                self._versions[task_id] = 0
            del self._unsure[task_id]
        return self._versions.setdefault(task_id, 0)

    async def _delete(self, task_id: str) -> None:
        await self._alone.take(task_id)
        try:
            if task_id not in self._versions:
                return
            seen = await self._version(task_id)
            try:
                await self._store.put_document(KIND, task_id, None, version=seen)
            except HolonError:
                self._unsure[task_id] = None
                raise
            self._gone(task_id)
        finally:
            self._alone.leave(task_id)


_FIELDS = frozenset(one.name for one in fields(Delegation))


def _lost(task_id: str) -> TenureLost:
    return TenureLost(f"another node has task {task_id}")


def _read(document: Document) -> Delegation | None:
    try:
        said = orjson.loads(document.value)
        # A later release may note more.
        return Delegation(**{name: value for name, value in said.items() if name in _FIELDS})
    except (ValueError, TypeError, AttributeError) as error:
        message = "the stored task %s of the parent cannot be read, and is ignored: %r"
        log.error(message, document.key, error, extra={"task_id": document.key})
        return None
