"""The reputations of workers by skill: what results made of them, here and at the other nodes of the store."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import TypeAlias

from msgspec import DecodeError, Struct
from msgspec.msgpack import Decoder, Encoder

from holon.domain.attempts import Loss
from holon.domain.children import is_nodes_own
from holon.domain.fleet import Reason, SkillReputation
from holon.domain.reputation import BEST, Move, Rules, Standing
from holon.domain.task import WORKER_LOST, Outcome
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
# Moves are collected for this long. A crash can lose as much.
PAUSE_S = 1.0
# Hints can be lost. What another node wrote can then go unseen for this long.
LOOK_EVERY_S = 30.0
# The ended sessions that are remembered, so that each counts as lost once.
MOST_ENDED = 1_000

# A worker, and one of its skills.
Key: TypeAlias = tuple[str, str]


class Record(Struct, array_like=True, frozen=True):
    """A standing as it is stored, the skill, and the name of the write that made it."""

    skill: str
    value: float
    at: int
    write: str
    reasons: tuple[Reason, ...] = ()


_encode = Encoder().encode
_decode = Decoder(Record).decode


class _Known(Value, gc=True):
    """What the store had for a worker's skill when it was last read or written."""

    standing: Standing
    version: int


class _Write(Value, gc=True):
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
    """Keeps every reputation that is below the best, and tells placement which workers get tasks of which skills.

    The store forgets a reputation once it has recovered. What is kept is therefore bounded, whether its worker comes
    again or not.

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
        self._known: dict[Key, _Known] = {}
        # What is to be handed to the store, and what is on its way there.
        self._moves: dict[Key, Move] = {}
        self._writes: dict[Key, _Write] = {}
        # By worker, the skills in these three; and the versions of documents that cannot be read.
        self._skills: defaultdict[str, set[str]] = defaultdict(set)
        self._unreadable: dict[str, int] = {}
        self._ended: dict[tuple[str, str], None] = {}
        self._one = asyncio.Lock()
        # The workers whose sessions here have not the best; and when the first skill of one is trusted again.
        self._low: set[str] = set()
        self._back_at: int | None = None
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Reputations(known={len(self._known)}, moves={len(self._moves)}, writes={len(self._writes)})"

    # What others ask and say -------------------------------------------------------------------------------------

    def of(self, worker_id: str, skill: str) -> SkillReputation:
        """A worker's reputation for a skill, with all that is known here."""
        key, now = (worker_id, skill), self._now()
        known, write, move = self._known.get(key), self._writes.get(key), self._moves.get(key)
        standing = Standing(BEST, now) if known is None else known.standing
        for one in (write.move if write is not None else None, move):
            standing = standing if one is None else standing.moved(one, now)
        value = standing.now(now)
        return SkillReputation(skill, value, self._rules.trusts(value), standing.reasons)

    def of_worker(self, worker_id: str) -> Mapping[str, SkillReputation]:
        """A worker's reputations by skill; those that are not here are the best."""
        found = [self.of(worker_id, skill) for skill in sorted(self._skills.get(worker_id, ()))]
        return {one.skill: one for one in found if one.value < BEST}

    def joined(self, session: Session) -> None:
        """A session is about to open: it has its worker's reputations, whatever the worker says of itself."""
        session.stands(self.of_worker(session.worker_id))
        if session.reputations:
            self._low.add(session.worker_id)
            self.hints.wake()

    def judged(self, session: Session, results: Iterable[tuple[str, Outcome, bool]]) -> None:
        """Results of a worker were taken, once each.

        Arguments:
            results: with each its skill, and whether it broke its contract.
        """
        moved = False
        for skill, outcome, broken in results:
            by = self._rules.by(outcome, broken=broken, is_holon=session.is_holon)
            code = outcome.error.code if outcome.error is not None else ""
            moved = self._move(session.worker_id, skill, by, code) or moved
        if moved:
            self._stand(session)
            self.hints.wake()

    def lost(self, losses: Iterable[Loss]) -> None:
        """Attempts were lost or timed out. A session that ended counts once for each skill, whatever it held."""
        workers: set[str] = set()
        for loss in losses:
            if loss.code == WORKER_LOST:
                ended = loss.session_id, loss.skill
                if ended in self._ended:
                    continue
                self._ended[ended] = None
                if len(self._ended) > MOST_ENDED:
                    del self._ended[next(iter(self._ended))]
            if self._move(loss.worker_id, loss.skill, -self._rules.failure, loss.code):
                workers.add(loss.worker_id)
        for worker_id in workers:
            if (present := self._fleet.find(worker_id)) is not None:
                self._stand(present.session)
        if workers:
            self.hints.wake()

    def _move(self, worker_id: str, skill: str, by: float, code: str) -> bool:
        """Note one more result of a worker's; whether it changes anything."""
        key = worker_id, skill
        before = self._moves.get(key)
        if not by or is_nodes_own(worker_id) or (before is None and len(self._moves) >= MAX_DOCUMENTS):
            return False
        # The best is not made better: that is no move.
        if by > 0 and self.of(worker_id, skill).value >= BEST:
            return False
        reason = Reason(code, 1, self._now()) if by < 0 else None
        self._moves[key] = (before or Move()).then(by, reason)
        self._skills[worker_id].add(skill)
        return True

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
                self._away.warn("reputations of workers cannot be stored", why=error.message)
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
            log.warning("the newest results do not count for the reputation of their workers: %s", error.message)

    async def _exchange(self) -> None:
        async with self._one:
            for _ in range(TRIES):
                await self._read()
                for key in self._moves.keys() - self._writes.keys():
                    self._writes[key] = _Write(self._moves.pop(key), random_id())
                # What moved behind a write that had no answer goes next.
                left = bool(self._moves)
                if self._writes:
                    await self._write()
                if not (self._writes or left):
                    return
        raise contended(KIND)

    async def _read(self) -> None:
        """Know what the store has, and with that what became of writes without an answer."""
        found: dict[Key, _Known] = {}
        last: dict[Key, str] = {}
        unreadable: dict[str, int] = {}
        for document in await self._store.documents(KIND):
            record = _record_of(document)
            if record is None:
                unreadable[document.key] = document.version
                continue
            key = _worker_in(document.key), record.skill
            found[key] = _Known(Standing(record.value, record.at, record.reasons), document.version)
            last[key] = record.write
        self._known, self._unreadable = found, unreadable
        self._skills.clear()
        for worker_id, skill in (*found, *self._writes, *self._moves):
            self._skills[worker_id].add(skill)
        for key, one in list(self._writes.items()):
            # Where others wrote since, it may have arrived before them; and nothing is to count twice.
            if one.sent and (last.get(key) == one.name or (one.unsure and self._version(key) != one.over)):
                del self._writes[key]

    async def _write(self) -> None:
        now = self._now()
        puts: list[Put] = []
        keys: list[Key] = []
        made: dict[Key, Standing] = {}
        for key, one in self._writes.items():
            known, version = self._known.get(key), self._version(key)
            standing = (known.standing if known is not None else Standing(BEST, now)).moved(one.move, now)
            made[key] = standing
            self._writes[key] = replace(one, over=version, sent=True, unsure=True)
            left = standing.reaches(BEST) - now
            record = Record(key[1], standing.value, standing.at, one.name, standing.reasons)
            keys.append(key)
            puts.append(
                Put(_document_of(key), _encode(record) if left > 0 else None, version, left if left > 0 else None)
            )
        try:
            versions = await self._store.put_documents(KIND, puts)
        except ResourceExhausted as error:
            self._away.warn("reputations of further workers are not stored", why=error.message)
            for key, put in zip(keys, puts, strict=True):
                if not put.version:
                    del self._writes[key]
            return
        for key, put, new in zip(keys, puts, versions, strict=True):
            if new is None:
                # Another node was faster.
                self._writes[key] = replace(self._writes[key], unsure=False)
                continue
            del self._writes[key]
            if put.value is None:
                self._known.pop(key, None)
            else:
                self._known[key] = _Known(made[key], new)

    def _version(self, key: Key) -> int:
        """The version of a document; 0: there is none."""
        known = self._known.get(key)
        return known.version if known is not None else self._unreadable.get(_document_of(key), 0)

    # Sessions ----------------------------------------------------------------------------------------------------

    def _stand_all(self) -> None:
        """Give the sessions here their workers' reputations of now."""
        self._back_at = None
        some = self._low.union(self._skills)
        self._low = set()
        for session in list(self._dispatcher.sessions) if some else ():
            if session.worker_id not in some:
                continue
            self._stand(session)
            for skill in session.distrusted:
                known = self._known.get((session.worker_id, skill))
                if known is not None:
                    back_at = known.standing.reaches(self._rules.threshold)
                    self._back_at = back_at if self._back_at is None else min(self._back_at, back_at)

    def _stand(self, session: Session) -> None:
        before, distrusted = session.reputations, session.distrusted
        session.stands(self.of_worker(session.worker_id))
        if session.reputations:
            self._low.add(session.worker_id)
        facts = {"worker_id": session.worker_id}
        for skill in sorted(distrusted - session.distrusted):
            log.info("worker %s gets tasks of skill %r again", session.worker_id, skill, extra=facts)
        for skill in sorted(session.distrusted - distrusted):
            said = session.worker_id, skill, session.reputation_of(skill), self._rules.threshold
            log.warning(
                "worker %s gets no more tasks of skill %r: its reputation is %.3f, below %g", *said, extra=facts
            )
        changed = session.distrusted != distrusted
        if changed:
            self._dispatcher.regarded(session)
        if changed or session.reputations != before:
            failed = [one.reasons for one in before.values()] != [one.reasons for one in session.reputations.values()]
            self._fleet.regarded(session, changed=changed, failed=failed)

    def _wait_s(self) -> float:
        """For how long nothing needs to be looked at, if nothing is told."""
        if self._back_at is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.0, (self._back_at - self._now()) / 1000))


def _document_of(key: Key) -> str:
    """The document of a worker's skill. The name of the skill may be too long for a key."""
    return f"{key[0]} {blake2b(key[1].encode(), digest_size=16).hexdigest()}"


def _worker_in(document_key: str) -> str:
    return document_key.rpartition(" ")[0]


def _record_of(document: Document) -> Record | None:
    """What is stored of a worker's skill; None: it cannot be read. The next move of that reputation writes over it."""
    try:
        return _decode(document.value)
    except DecodeError as error:
        worker_id = _worker_in(document.key)[:128]
        log.warning("a reputation of worker %s cannot be read: %r", worker_id, error, extra={"worker_id": worker_id})
        return None
