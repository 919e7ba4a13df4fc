"""The reputations of workers: what results made of them, here and at the other nodes of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from msgspec import DecodeError, Struct
from msgspec.msgpack import Decoder, Encoder

from holon.domain.children import is_nodes_own
from holon.domain.reputation import BEST, Move, Rules, Standing, bounded
from holon.domain.task import Outcome
from holon.domain.value import Value, replace
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.session import Session
from holon.errors import ResourceExhausted, StoreUnavailable
from holon.ports import MAX_DOCUMENTS, TRIES, Document, DocumentHints, Put, Shared, contended
from holon.randomness import random_id
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

KIND = "reputation"
# Moves are collected for so long; what a crash can lose.
PAUSE_S = 1.0
# Hints can be lost: for so long what another node wrote can then go unseen.
LOOK_EVERY_S = 30.0


class Record(Struct, array_like=True, frozen=True):
    """A standing as it is stored, and the name of the write that made it."""

    value: float
    at: int
    write: str


_encode = Encoder().encode
_decode = Decoder(Record).decode


class _Known(Value):
    """What the store had for a worker when it was read or written last."""

    standing: Standing
    version: int


class _Write(Value):
    """Moves on their way: to be added once to what the store has.

    `over` is the version that they were written over last. `sent`: they were written, and had no answer, or that
    somebody else was faster; `unsure`: it was the former.
    """

    move: Move
    name: str
    over: int = 0
    sent: bool = False
    unsure: bool = False


class Reputations:
    """Keeps the reputation of every worker that has not the best, and lets placement know who may have tasks.

    A worker of which nothing is kept has the best. The store forgets one that has come back to it, so that what is kept
    is bounded, whether its worker is seen again or not.

    Arguments:
        now: the store's clock, in epoch milliseconds.

    Attributes:
        hints: is to be told when documents change; perhaps it is a reputation.
    """

    def __init__(
        self, store: Shared, dispatcher: Dispatcher, fleet: Fleet, now: Callable[[], int], rules: Rules
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._now = now
        self._rules = rules
        self._known: dict[str, _Known] = {}
        # By worker: what is to be handed to the store, and what is on its way there.
        self._moves: dict[str, Move] = {}
        self._writes: dict[str, _Write] = {}
        self._one = asyncio.Lock()
        # Whose sessions here have not the best; and when the first of them is trusted again.
        self._low: set[str] = set()
        self._back_at: int | None = None
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Reputations(known={len(self._known)}, moves={len(self._moves)}, writes={len(self._writes)})"

    # What others ask and say -------------------------------------------------------------------------------------

    def of(self, worker_id: str) -> float:
        """A worker's reputation, with all that is known here."""
        known = self._known.get(worker_id)
        value = BEST if known is None else known.standing.now(self._now())
        if (write := self._writes.get(worker_id)) is not None:
            value = write.move.of(value)
        move = self._moves.get(worker_id)
        return value if move is None else move.of(value)

    def joined(self, session: Session) -> None:
        """A session is about to open: it stands as its worker does, whatever that says of itself."""
        session.reputation = self.of(session.worker_id)
        session.trusted = self._rules.trusts(session.reputation)
        if session.reputation < BEST:
            self._low.add(session.worker_id)
            self.hints.wake()

    def judged(self, session: Session, results: Iterable[tuple[Outcome, bool]]) -> None:
        """Results of a worker were taken, once each.

        Arguments:
            results: with each whether it broke its contract.
        """
        worker_id, value = session.worker_id, session.reputation
        before = self._moves.get(worker_id)
        if is_nodes_own(worker_id) or (before is None and len(self._moves) >= MAX_DOCUMENTS):
            return
        move = before or Move()
        for outcome, broken in results:
            by = self._rules.by(outcome, broken=broken, is_holon=session.is_holon)
            # Who has the best is not made better: that is no move.
            if by < 0 or (by > 0 and value < BEST):
                move, value = move.then(by), bounded(value + by)
        if move == (before or Move()):
            return
        self._moves[worker_id] = move
        self._stand(session)
        self.hints.wake()

    # What the store has ------------------------------------------------------------------------------------------

    async def recall(self) -> None:
        """Know the reputations before the first worker comes.

        Raises:
            StoreUnavailable: the store is away.
        """
        async with self._one:
            await self._read()

    async def run(self) -> None:
        """Hand over what moved, learn what moved elsewhere, and see who has come back, until cancelled."""
        while True:
            try:
                await self._exchange()
            except StoreUnavailable as error:
                self._away.warn("reputations of workers are not stored", why=error.message)
                await asyncio.sleep(error.again_after)
                self.hints.wake()
            self._stand_all()
            await asyncio.sleep(PAUSE_S)
            await self.hints.wait(self._wait_s())

    async def drain(self) -> None:
        """Hand over what moved; what cannot be is lost."""
        try:
            await self._exchange()
        except StoreUnavailable as error:
            log.warning("the last results have no part in the reputation of their workers: %s", error.message)

    async def _exchange(self) -> None:
        async with self._one:
            for _ in range(TRIES):
                await self._read()
                for worker_id in self._moves.keys() - self._writes.keys():
                    self._writes[worker_id] = _Write(self._moves.pop(worker_id), random_id())
                # What moved behind a write that had no answer goes next.
                left = bool(self._moves)
                if self._writes:
                    await self._write()
                if not (self._writes or left):
                    return
        raise contended(KIND)

    async def _read(self) -> None:
        """Know what the store has, and with that what became of writes without an answer."""
        found: dict[str, _Known] = {}
        last: dict[str, str] = {}
        for document in await self._store.documents(KIND):
            record = _record_of(document)
            found[document.key] = _Known(Standing(record.value, record.at), document.version)
            last[document.key] = record.write
        self._known = found
        for worker_id, one in list(self._writes.items()):
            known = found.get(worker_id)
            version = known.version if known is not None else 0
            # Where others wrote since, it may have arrived before them; and nothing is to count twice.
            if one.sent and (last.get(worker_id) == one.name or (one.unsure and version != one.over)):
                del self._writes[worker_id]

    async def _write(self) -> None:
        now = self._now()
        puts: list[Put] = []
        made: dict[str, Standing] = {}
        for worker_id, one in self._writes.items():
            known = self._known.get(worker_id)
            standing = (known.standing if known is not None else Standing(BEST, now)).moved(one.move, now)
            version = known.version if known is not None else 0
            made[worker_id] = standing
            self._writes[worker_id] = replace(one, over=version, sent=True, unsure=True)
            left = standing.reaches(BEST) - now
            text = _encode(Record(standing.value, standing.at, one.name)) if left > 0 else None
            puts.append(Put(worker_id, text, version, left if left > 0 else None))
        try:
            versions = await self._store.put_documents(KIND, puts)
        except ResourceExhausted as error:
            self._away.warn("reputations of more workers are not kept", why=error.message)
            for put in puts:
                if not put.version:
                    del self._writes[put.key]
            return
        for put, new in zip(puts, versions, strict=True):
            if new is None:
                # Somebody else was faster.
                self._writes[put.key] = replace(self._writes[put.key], unsure=False)
                continue
            del self._writes[put.key]
            if put.value is None:
                self._known.pop(put.key, None)
            else:
                self._known[put.key] = _Known(made[put.key], new)

    # Sessions ----------------------------------------------------------------------------------------------------

    def _stand_all(self) -> None:
        """Let the sessions here stand as their workers do now."""
        self._back_at = None
        some = self._low.union(self._known, self._writes, self._moves)
        self._low = set()
        for session in list(self._dispatcher.sessions) if some else ():
            if session.worker_id not in some:
                continue
            self._stand(session)
            known = self._known.get(session.worker_id)
            if not session.trusted and known is not None:
                back_at = known.standing.reaches(self._rules.threshold)
                self._back_at = back_at if self._back_at is None else min(self._back_at, back_at)

    def _stand(self, session: Session) -> None:
        before = session.reputation
        session.reputation = self.of(session.worker_id)
        if session.reputation < BEST:
            self._low.add(session.worker_id)
        trusted = self._rules.trusts(session.reputation)
        changed, session.trusted = trusted != session.trusted, trusted
        if changed:
            facts = {"worker_id": session.worker_id}
            if trusted:
                log.info("worker %s has its reputation back, and gets tasks again", session.worker_id, extra=facts)
            else:
                said = session.worker_id, session.reputation, self._rules.threshold
                log.warning("worker %s gets no tasks: its reputation is %.3f, under %g", *said, extra=facts)
            self._dispatcher.regarded(session)
        if changed or session.reputation != before:
            self._fleet.regarded(session, changed=changed)

    def _wait_s(self) -> float:
        """For how long nothing needs to be looked at, if nothing is told."""
        if self._back_at is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.0, (self._back_at - self._now()) / 1000))


def _record_of(document: Document) -> Record:
    """What is stored of a worker; what cannot be read counts as the best, and is written over by what moves it."""
    try:
        return _decode(document.value)
    except DecodeError as error:
        worker_id = document.key[:128]
        log.warning("the reputation of worker %s cannot be read: %r", worker_id, error, extra={"worker_id": worker_id})
        return Record(BEST, 0, "")
