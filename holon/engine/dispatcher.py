"""The dispatcher: who can do what waits. It names seats to the store's calls, and brings offers to their sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter

from holon.domain.matching import Need, Offering
from holon.engine.choosing import SOFT_LIMIT
from holon.engine.fleets.elsewhere import Elsewhere
from holon.engine.matches import Matches
from holon.engine.named import Named
from holon.engine.queued import KEYS_AT_ONCE, Queued
from holon.engine.seats import Seats
from holon.engine.session import UNKNOWN, Machines, Session
from holon.engine.waits import Provider, Reasons, Said, passed_over
from holon.errors import StoreUnavailable
from holon.ports import Leased, LeaseRef, Leases, Offer, Seat, Stop
from holon.telemetry.events import Telemetry
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

_key_of = attrgetter("key")


class Dispatcher:
    """Matches needs to sessions, in memory; the store never matches.

    Arguments:
        store: what leases.
        telemetry: where offers are told.
        soft_limit: as in `rank` of the strategies.
        elsewhere: the workers of other nodes, for what is said of tasks that wait; None: there are none.
    """

    def __init__(
        self,
        store: Leases,
        telemetry: Telemetry,
        soft_limit: int = SOFT_LIMIT,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._store = store
        self._elsewhere = elsewhere or Elsewhere()
        self._elsewhere.on_change = self._changed_elsewhere
        self._telemetry = telemetry
        # Those of workers, by their ids.
        self._workers: dict[str, Session] = {}
        self._waiting = Queued()
        self._said = Said()
        self._away = Seldom(log)
        self._matches = Matches(self._said, soft_limit)
        self._seats = Seats(self._matches, self._waiting)
        self._reasons = Reasons(self._elsewhere)
        self._wake = asyncio.Event()
        self._freed = asyncio.Event()
        # Called with the skills of which others may be offered than before; None: of any.
        self.offered: Callable[[Collection[str] | None], None] = lambda _: None
        # Called when other tasks wait than before, or others are there to do them.
        self.waits: Callable[[], None] = lambda: None
        # Called with offers whose session ended before they could be sent.
        self.undelivered: Callable[[Sequence[Offer]], None] = lambda _: None

    def __repr__(self) -> str:
        return f"Dispatcher({self._matches!r}, waiting={len(self._waiting)})"

    # Who is there ------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> Collection[Session]:
        """The live sessions of workers."""
        return self._workers.values()

    def session(self, session_id: str) -> Session | None:
        """A live session."""
        return self._matches.sessions.get(session_id)

    def newest(self, session: Session) -> Session:
        """The session itself, or the one that replaced it, if that is here."""
        if session.session_id in self._matches.sessions:
            return session
        return next((one for one in self.sessions if one.worker_id == session.worker_id), session)

    def add(self, session: Session) -> None:
        """A session of a worker has opened."""
        self._workers[session.session_id] = session
        self._match(session)
        self.offered(session.skills)

    def add_own(self, session: Session) -> None:
        """The node has opened a session of its own: it is offered what is for that, and is no worker's."""
        self._match(session)

    def offers_changed(self, session: Session, offerings: Mapping[Offering, str], machines: Machines = UNKNOWN) -> None:
        """A session offers other skills than before; as `Session.offers`."""
        before = session.skills
        session.offers(offerings, machines)
        self._match(session)
        self.offered(before | session.skills)

    def regarded(self, session: Session) -> None:
        """A session of a worker is trusted from now on, or not any more; one that has ended is left alone."""
        if self._workers.get(session.session_id) is session:
            self._match(session)

    def _match(self, session: Session) -> None:
        self._matches.match(session)
        self._reasons.changed()
        self.waits()
        self.has_room(session)

    def remove(self, session: Session) -> None:
        """A session has ended."""
        self._workers.pop(session.session_id, None)
        self._matches.remove(session)
        self._reasons.changed()
        self.waits()
        self._seats.promised.discard(session)
        session.taking = False
        self._freed.set()

    def _changed_elsewhere(self) -> None:
        """Others are at other nodes, or offer other things, than before."""
        self._reasons.changed()
        self._matches.changed_elsewhere(self._elsewhere.can_do)
        self.waits()
        self.offered(None)

    def statuses(self, skill: str) -> Sequence[frozenset[str]]:
        """The statuses of their own that the offerings of a skill declare, of each worker at any node; empty: none."""
        providers: list[Provider] = [*self._matches.offering(skill), *self._elsewhere.offering(skill)]
        return [offer.statuses for one in providers for offer in one.offers_of(skill)]

    # What waits --------------------------------------------------------------------------------------------------

    def learn(self, need: Need) -> str:
        """Know of a need, and which sessions can do it; answers with its match key."""
        key = need.key
        if key not in self._matches:
            if self._matches.knows_enough():
                self._matches.forget_all_but({*self._waiting, *self._seats.named})
            self._matches.learn(need)
        return key

    async def wait_without(self, seats: Sequence[Seat], needs: Iterable[Need]) -> None:
        """Tasks with these needs were written; those of match keys without any of these seats wait for a lease."""
        left = set(map(_key_of, needs))
        for seat in seats:
            left.difference_update(seat.keys)
        if left:
            for need in await self.wait_for(left):
                self._tell(need)

    async def wait_for(self, keys: Iterable[str]) -> Sequence[Need]:
        """Tasks of these match keys wait for a lease; answers with their needs, looked up if not known yet."""
        keys = set(keys)
        needs = [self._matches[key] for key in keys if key in self._matches]
        if len(needs) < len(keys):
            # Those that are known now may be forgotten meanwhile.
            needs += (await self._store.needs(keys.difference([need.key for need in needs]))).values()
        for need in needs:
            # One by one: what waits is not forgotten when very many are learned.
            self._waiting.add(self.learn(need))
        self.look()
        self.waits()
        return needs

    def waits_no_more(self, key: str) -> None:
        """Nothing waits behind a match key now."""
        self._waiting.named((key,), ())

    def refused(self) -> Mapping[Need, frozenset[str]]:
        """The needs of waiting tasks that everybody who offers their skill refuses, as `refused_by` has them."""
        waiting = [self._matches[key] for key in self._waiting if key in self._matches]
        offered: dict[tuple[str, str, str], tuple[frozenset[str], frozenset[str]]] = {}
        found: dict[Need, frozenset[str]] = {}
        for need in waiting:
            if need.refused:
                # Thousands of needs may ask for one skill, which as many workers offer.
                asked = need.skill, need.version, need.type
                if asked not in offered:
                    offered[asked] = self._contracts(need)
                if contracts := _all_refuse(need, *offered[asked]):
                    found[need] = contracts
        return found

    def refused_by(self, need: Need) -> frozenset[str]:
        """The contracts of the offerings that a task with this need asks for, at any node, if each refuses its params.

        None where one does not, or where no worker of this node has such an offering.
        """
        return _all_refuse(need, *self._contracts(need))

    def _contracts(self, need: Need) -> tuple[frozenset[str], frozenset[str]]:
        """The contracts of the offerings that a need asks for, those of this node's workers and those of all."""
        both: list[frozenset[str]] = []
        providers: list[Provider] = [*self._matches.offering(need.skill)]
        for some in (providers, self._elsewhere.offering(need.skill)):
            offers = (offer for one in some for offer in one.offers_of(need.skill))
            asked = (one for one in offers if need.version in ("", one.version) and need.type in ("", one.type))
            both.append(frozenset(one.contract for one in asked))
        return both[0], both[0] | both[1]

    def can_do(self, need: Need, but: Collection[str] = ()) -> bool:
        """Whether a worker of this node that takes tasks could do one with this need, now or once it has room.

        Arguments:
            but: the ids of workers that do not count.
        """
        fitting = self._matches.fitting(self.learn(need))
        return any(session.taking and session.worker_id not in but for session in fitting)

    def somebody_can(self, need: Need) -> bool:
        """The same of the workers of all nodes, as far as they tell of them."""
        return self.can_do(need) or self._elsewhere.can_do(need)

    def why(self, need: Need) -> str:
        """Why a task with this need waits, in a sentence; empty where it is about to be given to somebody."""
        key = self.learn(need)
        if self._matches.has_room(key):
            return passed_over(need)
        if any(one.taking and key in one.fits and len(one.leases) < one.credits for one in self._seats.promised):
            return ""
        return self._reasons.why(need, self._matches.fitting(key), self._matches.offering(need.skill))

    # Seats -------------------------------------------------------------------------------------------------------

    def seats_for(self, needs: Mapping[Need, int]) -> list[Seat]:
        """Room for new tasks: by need, how many. It is promised until the call that is made `naming` it is over."""
        seats: list[Seat] = []
        for need, n in needs.items():
            self.learn(need)
            seats += self._seats.for_new(need, n)
        return seats

    def seats_at(self, session: Session, n: int) -> list[Seat]:
        """Room for what waits at a session that is about to have room for `n` more, as `Seats.at`."""
        return self._seats.at(session, n)

    def seats_of(self, sessions: Iterable[Session]) -> list[Seat]:
        """Room for what waits at the first of these sessions, as `Seats.at_next`."""
        return self._seats.at_next(deque(sessions))

    def naming(self, seats: Sequence[Seat]) -> Named:
        """A store call with these seats; what it leases is brought to their sessions as it is left."""
        return Named(seats, self._over)

    def _over(self, seats: Sequence[Seat], leased: Leased | None) -> None:
        """As `_settle`; what its seats kept from other tasks, and got nothing for, these may have now."""
        self._settle(seats, leased)
        if leased is not None and len(leased.offers) < sum([seat.n for seat in seats]):
            sessions = (self._matches.sessions.get(seat.session_id) for seat in seats)
            if any(one is not None and one.free > 0 and self._waiting.any_of(one.fits) for one in sessions):
                self.look()

    def _settle(self, seats: Sequence[Seat], leased: Leased | None) -> None:
        self._seats.free(seats)
        if leased is None:
            self.look()
            return
        self._waiting.named((key for seat in seats for key in seat.keys), leased.left)
        if leased.offers and leased.left:
            # There may be room for more: nobody asked for it, or a part of the store was away and handed none over.
            self.look()
        by_session: dict[str, list[Offer]] = defaultdict(list)
        for offer in leased.offers:
            by_session[offer.session_id].append(offer)
        for session_id, offers in by_session.items():
            session = self._matches.sessions.get(session_id)
            if session is None:
                self.undelivered(offers)
            else:
                if session.hot or session.cached:
                    self._count_loaded(session, offers)
                session.connection.offer(self._telemetry.offered(session.take(offers)))

    def _count_loaded(self, session: Session, offers: Sequence[Offer]) -> None:
        hot = [session.has_hot(one.skill) for one in offers]
        hinted = [session.has_cached(one.hint) for one in offers]
        self._telemetry.offered_loaded(
            sum(hot), sum([too and not first for first, too in zip(hot, hinted, strict=True)])
        )

    def freed(self, session: Session, *leases: str) -> None:
        """Leases no longer count against the credits of their session, or of the one that replaced it."""
        session = self.newest(session)
        for lease_id in leases:
            session.let_go(lease_id)
            session.accepted.discard(lease_id)
            session.terms.pop(lease_id, None)
            self._telemetry.tracing.freed(lease_id)
        self._matches.reopen(session)
        self._freed.set()
        if self._waiting.any_of(session.fits):
            # What began to wait while these leases were on their way back was not named to that call.
            self.look()

    async def quiet(self) -> None:
        """Wait until no session holds a lease."""
        while any(session.leases for session in self.sessions):
            self._freed.clear()
            await self._freed.wait()

    def has_room(self, session: Session) -> None:
        """A session may have more room than before."""
        self._matches.reopen(session)
        self.look()

    def look(self) -> None:
        """Something changed that may let a waiting task be leased."""
        self._wake.set()

    def stop(self, stops: Iterable[Stop]) -> Sequence[LeaseRef]:
        """Bring stops to their sessions; answers with the leases that no session here has, of which nobody will speak.

        Only the store counts them: they were lost on their way from it, or it did not hear of their session's end.
        """
        by_session: dict[Session, list[Stop]] = defaultdict(list)
        unknown: list[LeaseRef] = []
        for one in stops:
            session = self._matches.sessions.get(one.lease.session_id)
            if session is not None and one.lease.lease_id in session.leases:
                by_session[session].append(one)
            else:
                unknown.append(one.lease)
        for session, mine in by_session.items():
            session.connection.stop(mine)
        return unknown

    def _tell(self, need: Need) -> None:
        """Say that tasks wait which nobody can do."""
        if not self._said.has(need) and not self.somebody_can(need):
            self._said.say(need, self.why(need))

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lease what waits to whoever has room, whenever something changes."""
        await self._begin()
        while True:
            await self._wake.wait()
            self._wake.clear()
            sessions = deque(self._matches.with_room(self._waiting))
            # Of sessions for which more may wait than is named at once: what was named.
            named: dict[str, set[str]] = {}
            while sessions and self._waiting and await self._lease_to(sessions, named):
                pass

    async def _lease_to(self, sessions: deque[Session], named: dict[str, set[str]]) -> bool:
        """Lease what waits to the next of these sessions, as far as they have room; whether others may be asked now.

        Arguments:
            sessions: those that are asked for are taken out; one that has room still, and for which more may wait than
                was named for it, is put behind the others.
            named: the match keys that were named, by session: none is named for it again. In what order they come next
                does not tell: others were named for other sessions meanwhile.
        """
        seats = self._seats.at_next(sessions, named)
        if not seats:
            return True
        try:
            # Not `naming`: what waits and is not for these sessions would be asked for again and again.
            with Named(seats, self._settle) as call:
                call.leased = await self._store.lease(seats)
        except StoreUnavailable as error:
            self._away.warn("tasks cannot be leased", why=error.message)
            # It is asked again, for that a call has failed wakes this; but it may refuse at once, so not before.
            await asyncio.sleep(error.again_after)
            return False
        if sum([len(seat.keys) for seat in seats]) >= KEYS_AT_ONCE:
            sessions += self._unasked(seats, named)
        return True

    def _unasked(self, seats: Sequence[Seat], named: dict[str, set[str]]) -> Iterable[Session]:
        """The sessions of these seats that have room for something that may not have been named for them yet."""
        by_session: dict[str, set[str]] = defaultdict(set)
        for seat in seats:
            by_session[seat.session_id].update(seat.keys)
        for session_id, keys in by_session.items():
            if len(keys) >= KEYS_AT_ONCE:
                named.setdefault(session_id, set()).update(keys)
                session = self._matches.sessions.get(session_id)
                if session is not None and session.free > 0:
                    yield session

    async def _begin(self) -> None:
        """Learn what waits already; a store that is away just now is waited for."""
        while True:
            try:
                needs = await self._store.needs()
            except StoreUnavailable as error:
                self._away.warn("waiting tasks cannot be looked up", why=error.message)
                await asyncio.sleep(error.again_after)
                continue
            for need in needs.values():
                # One by one: what waits is not forgotten when very many are learned.
                self._waiting.add(self.learn(need))
            self.look()
            return


def _all_refuse(need: Need, here: frozenset[str], everywhere: frozenset[str]) -> frozenset[str]:
    return everywhere if here and everywhere.issubset(need.refused) else frozenset()
