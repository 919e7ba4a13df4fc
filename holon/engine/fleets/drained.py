"""Fleets: which workers are drained, as the store keeps it: so each stays so at whichever node it is."""

from __future__ import annotations

import asyncio
import logging

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from holon.domain.fleet import MAX_WORKER_ID, WorkerView
from holon.domain.value import Value
from holon.engine.fleet import Fleet, not_connected
from holon.errors import HolonError
from holon.ports import Change, Document, DocumentHints, Put, Shared, change_document
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

KIND = "drained_workers"
# A worker that is not seen again for so long is forgotten; of one that is there it is written anew before that.
GOOD_MS = 30 * 86_400_000
# Hints can be lost: so long what was said at another node can go unseen. What is about to run out is found by then too.
LOOK_EVERY_S = 30.0


class Process(Value, array_like=True):
    """The process of a worker that is drained, as it names itself; the next one is not."""

    instance_id: str


_encode, _decode = Encoder().encode, Decoder(Process).decode


class DrainedWorkers:
    """Drains workers of this node, and knows of those that are drained at whichever node.

    Arguments:
        fleet: the workers of this node; it is told who is drained.

    Attributes:
        hints: is to be told when documents change; perhaps somebody is drained, or is not any more.
    """

    def __init__(self, store: Shared, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        # What is written here is not undone by what was read before.
        self._one = asyncio.Lock()
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"DrainedWorkers({self._fleet!r})"

    async def change(self, worker_id: str, *, undo: bool, reason: str) -> WorkerView:
        """Give a worker of this node no more tasks, here or elsewhere, until it starts again; or take that back.

        Durable when this returns. One that leaves by itself, or whose node does, gets no tasks in either case.

        Raises:
            NotFound: (WORKER_NOT_FOUND) it has no session here; and is not drained, where that is to be taken back.
            ResourceExhausted: (TOO_MANY_DOCUMENTS) very many are drained already.
            StoreUnavailable: the store is away; nothing is changed.
        """
        if not 0 < len(worker_id.encode()) <= MAX_WORKER_ID:
            # There is no worker of such a name, nor can be a document.
            raise not_connected(worker_id)
        async with self._one:
            return await (self._undrain(worker_id) if undo else self._drain(worker_id, reason))

    async def _drain(self, worker_id: str, reason: str) -> WorkerView:
        present = self._fleet.present(worker_id)
        change = Change(_encode(Process(present.session.instance_id)), GOOD_MS)
        await change_document(self._store, KIND, worker_id, lambda _: (None, change))
        return self._fleet.drain(present, reason)

    async def _undrain(self, worker_id: str) -> WorkerView:
        process = await change_document(self._store, KIND, worker_id, _forgotten)
        return self._fleet.undrain(worker_id, None if process is None else process.instance_id)

    async def look(self) -> None:
        """Know who is drained by now.

        Raises:
            StoreUnavailable: the store is away.
        """
        async with self._one:
            found = [(one, process) for one in await self._store.documents(KIND) if (process := _process_in(one))]
            self._fleet.drained_are({one.key: process.instance_id for one, process in found})
            renewed = [Put(one.key, one.value, one.version, GOOD_MS) for one, _ in found if self._runs_out(one)]
            if renewed:
                # One that has another version by now is not to be as it was.
                await self._store.put_documents(KIND, renewed)

    def _runs_out(self, one: Document) -> bool:
        """Whether a drain of a worker that is here has half of its time behind it."""
        is_here = self._fleet.find(one.key) is not None
        return is_here and one.expires_at is not None and one.expires_at - self._fleet.now() < GOOD_MS / 2

    async def run(self) -> None:
        """Hear of drains at other nodes, until cancelled."""
        while True:
            await self.hints.wait(LOOK_EVERY_S)
            try:
                await self.look()
            except HolonError as error:
                self._away.warn("the list of drained workers could not be updated", why=error.message)
                await asyncio.sleep(error.again_after)
                self.hints.wake()


def _process_in(document: Document) -> Process | None:
    try:
        return _decode(document.value)
    except DecodeError as error:
        said = "the note that worker %s is drained cannot be read, and is ignored: %r"
        log.warning(said, document.key, error, extra={"worker_id": document.key})
        return None


def _forgotten(document: Document | None) -> tuple[Process | None, Change | None]:
    return (None, None) if document is None else (_process_in(document), Change(None))
