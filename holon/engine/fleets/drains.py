"""Fleets: drains of workers that are connected to another node: the one that is asked asks that one, by the store."""

from __future__ import annotations

import asyncio
import logging

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from holon.domain.value import Value
from holon.engine.fleet import MAX_REASON
from holon.engine.fleets.drained import DrainedWorkers
from holon.errors import HolonError, NotFound, Unavailable
from holon.ports import Document, DocumentHints, Shared
from holon.randomness import random_id
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

KIND = "worker_drains"
# The node that has the worker answers within milliseconds; one that has died never does.
ANSWER_S = 3.0
RETRY_S = 1.0
# Hints can be lost: who waits for an answer looks, and asks again, so often. Who is asked need not look.
LOOK_S = 1.0
LOOK_EVERY_S = 30.0


class Drained(Value, array_like=True):
    """What became of it: the worker as it is now; not `found`: it has no session at that node, and was not drained."""

    found: bool
    draining: bool = False
    credits: int = 0
    held: int = 0


class Asked(Value, array_like=True, gc=True):
    """What one node asks of another, as the store has it for a few seconds; the answer is written beside it."""

    node_id: str
    worker_id: str
    undo: bool
    reason: str
    answer: Drained | None = None


_encode, _decode = Encoder().encode, Decoder(Asked).decode


class Drains:
    """Asks other nodes to drain workers of theirs, and does what they ask.

    Arguments:
        drained: drains workers of this node.
        node_id: this node's.
    """

    def __init__(self, store: Shared, drained: DrainedWorkers, node_id: str) -> None:
        self._store = store
        self._workers = drained
        self._node_id = node_id
        self._away = Seldom(log)
        self._hints = DocumentHints(KIND)
        # One more for each that waits for an answer.
        self._waiting: set[DocumentHints] = set()

    def __repr__(self) -> str:
        return f"Drains({self._node_id}, waiting={len(self._waiting)})"

    def changed(self, kinds: frozenset[str]) -> None:
        """Documents of these kinds have changed."""
        for hints in (self._hints, *self._waiting):
            hints.changed(kinds)

    async def ask(self, node_id: str, worker_id: str, *, undo: bool, reason: str) -> Drained:
        """Have another node drain a worker, or take that back.

        Raises:
            NotFound: (WORKER_NOT_FOUND) it has no session there any more.
            Unavailable: (NODE_AWAY) that node has not answered.
        """
        asked, hints = Asked(node_id, worker_id, undo, reason[:MAX_REASON]), DocumentHints(KIND)
        self._waiting.add(hints)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._answer(random_id(), _encode(asked), hints)
        except TimeoutError:
            message = (
                f"worker {worker_id[:128]!r} is connected to node {node_id!r}, which did not answer within "
                f"{ANSWER_S:g} s; retry, or call that node"
            )
            raise Unavailable(message, code="NODE_AWAY", retry_after=RETRY_S) from None
        finally:
            self._waiting.discard(hints)
        if not answer.found:
            message = f"worker {worker_id[:128]!r} is no longer connected to node {node_id!r}; look up its node again"
            raise NotFound(message, code="WORKER_NOT_FOUND")
        return answer

    async def _answer(self, key: str, text: bytes, hints: DocumentHints) -> Drained:
        now = asyncio.get_running_loop().time
        ends, version = now() + ANSWER_S, 0
        while True:
            # One that is answered by now stays as it is, and once nobody waits any more it is not done.
            version = await self._put(key, text, version, ends - now()) or version
            hinted = True
            while hinted:
                if (answer := _answer_in(await self._store.document(KIND, key))) is not None:
                    return answer
                hinted = await hints.wait(LOOK_S)

    async def _put(self, key: str, text: bytes, version: int, good_s: float) -> int | None:
        expires_in = max(1, round(good_s * 1000))
        return await self._store.put_document(KIND, key, text, version=version, expires_in=expires_in)

    async def run(self) -> None:
        """Do what other nodes ask, until cancelled."""
        while True:
            try:
                for document in await self._store.documents(KIND):
                    await self._do(document)
            except HolonError as error:
                self._away.warn("requests to other nodes to drain workers are sent later", why=error.message)
                await asyncio.sleep(error.again_after)
                self._hints.wake()
            await self._hints.wait(LOOK_EVERY_S)

    async def _do(self, document: Document) -> None:
        asked = _asked_in(document)
        if asked is None or asked.node_id != self._node_id or asked.answer is not None:
            return
        answered = Asked(asked.node_id, asked.worker_id, asked.undo, asked.reason, await self._drained(asked))
        # Where it has another version by now, it is asked again, or has run out.
        await self._put(document.key, _encode(answered), document.version, ANSWER_S)

    async def _drained(self, asked: Asked) -> Drained:
        try:
            view = await self._workers.change(asked.worker_id, undo=asked.undo, reason=asked.reason)
        except NotFound:
            return Drained(found=False)
        return Drained(True, view.draining, view.credits, view.held)


def _asked_in(document: Document) -> Asked | None:
    try:
        return _decode(document.value)
    except DecodeError as error:
        log.warning("a request of another node about workers cannot be read, and is ignored: %r", error)
        return None


def _answer_in(document: Document | None) -> Drained | None:
    asked = None if document is None else _asked_in(document)
    return None if asked is None else asked.answer
