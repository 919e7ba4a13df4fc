"""The dispatcher: who can do what waits. It names seats to the store's calls, and brings offers to their sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter

from holon.domain.costs import Cost
from holon.domain.matching import Need, Offering
from holon.engine.prices import Prices
from holon.engine.session import Session, business
from holon.engine.waits import Said, why
from holon.errors import StoreUnavailable
from holon.ports import Leased, LeaseRef, Leases, Offer, Seat, Stop
from holon.telemetry.events import Telemetry

log = logging.getLogger(__name__)

# Among so many sessions with room, taken in turn, the least busy gets a new task.
LOOK_AT = 4
# Of more match keys than this, those that nothing waits behind are forgotten; they are learned again when they return.
MOST_NEEDS = 1_000

_key_of = attrgetter("key")


class Dispatcher:
    """Matches needs to sessions, once for each of both, in memory; the store never matches.

    Arguments:
        store: what leases.
        telemetry: where offers are told.
    """

    def __init__(self, store: Leases, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry
        self._sessions: dict[str, Session] = {}
        self._needs: dict[str, Need] = {}
        self._fitting: dict[str, dict[str, Session]] = {}
        # By match key, those of the fitting sessions that may have room, in turn. One that has none is dropped when
        # it is looked at, and comes back when it has.
        self._open: dict[str, dict[str, Session]] = {}
        self._waiting: set[str] = set()
        # By match key, how many seats of calls under way name it.
        self._named: dict[str, int] = {}
        self._most = MOST_NEEDS
        self._said = Said()
        self._prices = Prices()
        self._wake = asyncio.Event()
        self._freed = asyncio.Event()
        # Called with offers whose session ended before they could be sent.
        self.undelivered: Callable[[Sequence[Offer]], None] = lambda _: None

    def __repr__(self) -> str:
        return f"Dispatcher(sessions={len(self._sessions)}, keys={len(self._needs)}, waiting={len(self._waiting)})"

    # Who is there ------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> Collection[Session]:
        """The live sessions."""
        return self._sessions.values()

    def session(self, session_id: str) -> Session | None:
        """A live session."""
        return self._sessions.get(session_id)

    def newest(self, session: Session) -> Session:
        """The session itself, or the one that replaced it, if that is here."""
        if session.session_id in self._sessions:
            return session
        return next((one for one in self._sessions.values() if one.worker_id == session.worker_id), session)

    def add(self, session: Session) -> None:
        """A session has opened."""
        self._sessions[session.session_id] = session
        self._match(session)

    def offers_changed(self, session: Session, offerings: Mapping[Offering, str]) -> None:
        """A session offers other skills than before, with the contract of the results of each."""
        session.offers(offerings)
        self._match(session)

    def _match(self, session: Session) -> None:
        session.fits = {key for key, need in self._needs.items() if session.can(need)}
        for key, sessions in self._fitting.items():
            if key in session.fits:
                sessions[session.session_id] = session
            else:
                sessions.pop(session.session_id, None)
                self._open[key].pop(session.session_id, None)
        for key in session.fits:
            self._said.came(self._needs[key].skill)
        self._prices.changed()
        self.has_room(session)

    def remove(self, session: Session) -> None:
        """A session has ended."""
        self._sessions.pop(session.session_id, None)
        self._prices.changed()
        session.taking = False
        for key in session.fits:
            self._fitting[key].pop(session.session_id, None)
            self._open[key].pop(session.session_id, None)
        self._freed.set()

    # What waits --------------------------------------------------------------------------------------------------

    def learn(self, need: Need) -> str:
        """Know of a need, and which sessions can do it; answers with its match key."""
        key = need.key
        if key not in self._needs:
            if len(self._needs) >= self._most:
                self._forget()
            self._needs[key] = need
            fitting = {one.session_id: one for one in self._sessions.values() if one.can(need)}
            for session in fitting.values():
                session.fits.add(key)
            self._fitting[key] = fitting
            self._open[key] = dict(fitting)
            if fitting:
                self._said.came(need.skill)
        return key

    def _forget(self) -> None:
        """Forget the needs that no task waits with, and no call under way asks for."""
        for key in self._needs.keys() - self._waiting - self._named.keys():
            for session in self._fitting.pop(key).values():
                session.fits.discard(key)
            self._said.forget(key, self._needs.pop(key).skill)
            del self._open[key]
        # Far more than are left, so that this stays rare however many wait.
        self._most = MOST_NEEDS + 2 * len(self._needs)

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
        if any(key not in self._needs for key in keys):
            for key, need in (await self._store.needs()).items():
                if key in keys:
                    self._waiting.add(self.learn(need))
        known = [key for key in keys if key in self._needs]
        self._waiting.update(known)
        self.look()
        return [self._needs[key] for key in known]

    def can_do(self, need: Need, but: Collection[str] = ()) -> bool:
        """Whether a worker of this node that takes tasks could do one with this need, now or once it has room.

        Arguments:
            but: the ids of workers that do not count.
        """
        fitting = self._fitting.get(self.learn(need), {}).values()
        return any(session.taking and session.worker_id not in but for session in fitting)

    def price(self, skill: str, within: int) -> Cost:
        """What a task of a skill may cost under a limit, as workers of this node declare it; see `Prices.of`."""
        return self._prices.of(skill, within, self._sessions.values())

    def why(self, need: Need) -> str:
        """Why a task with this need waits, in a sentence; empty where it is about to be given to somebody."""
        return why(need, self._fitting.get(self.learn(need), {}).values(), self._sessions.values())

    # Seats -------------------------------------------------------------------------------------------------------

    def seats_for(self, needs: Mapping[Need, int]) -> list[Seat]:
        """Room for new tasks: by need, how many. `settle` ends the promise."""
        seats: list[Seat] = []
        for need, left in needs.items():
            key = self.learn(need)
            while left and (session := self._least_busy(key)) is not None:
                n = min(session.room(need.skill), max(1, left // len(self._open[key])))
                seats.append(self._seat(session, n, (key,)))
                left -= n
        return seats

    def _least_busy(self, key: str) -> Session | None:
        """The least busy of the next few sessions with room for a match key; it goes to the end of the turn."""
        turn, skill = self._open[key], self._needs[key].skill
        found: Session | None = None
        least = 0.0
        while turn and found is None:
            for session in list(islice(turn.values(), LOOK_AT)):
                if session.room(skill) <= 0:
                    del turn[session.session_id]
                elif found is None or business(session) < least:
                    found, least = session, business(session)
        if found is not None:
            turn[found.session_id] = turn.pop(found.session_id)
        return found

    def seats_at(self, session: Session, n: int) -> list[Seat]:
        """Room for what waits at a session that is about to have room for `n` more."""
        keys = session.fits & self._waiting
        return self._seats(session, n, keys) if keys and session.taking and n > 0 else []

    def _all_seats(self) -> list[Seat]:
        sessions = {one.session_id: one for key in self._waiting for one in self._open[key].values() if one.free > 0}
        return [
            seat
            for session in sorted(sessions.values(), key=business)
            for seat in self._seats(session, session.free, session.fits & self._waiting)
        ]

    def _seats(self, session: Session, n: int, keys: Collection[str]) -> list[Seat]:
        """Room for `n` at a session; one seat for each skill with a limit of its own, and one for the others.

        Together they may be more than `n`: the store knows how much there is in all.
        """
        if not session.limits:
            return [self._seat(session, n, keys)]
        by_skill: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            skill = self._needs[key].skill
            by_skill[skill if skill in session.limits else ""].append(key)
        rooms = {skill: n if (left := session.left(skill)) is None else min(n, left) for skill in by_skill}
        return [self._seat(session, rooms[skill], of_skill) for skill, of_skill in by_skill.items() if rooms[skill] > 0]

    def _only(self, key: str) -> bool:
        taking = 0
        for session in self._fitting[key].values():
            taking += session.taking
            if taking > 1:
                return False
        return True

    def _seat(self, session: Session, n: int, keys: Iterable[str]) -> Seat:
        keys = tuple(keys)
        session.promised += n
        if session.limits:
            session.promised_of[self._needs[keys[0]].skill] += n
        for key in keys:
            self._named[key] = self._named.get(key, 0) + 1
        only = frozenset([key for key in keys if self._only(key)])
        return Seat(session.worker_id, session.session_id, n, keys, only)

    def settle(self, seats: Sequence[Seat], leased: Leased | None) -> None:
        """The call with these seats is over; None: it failed. Brings the offers to their sessions."""
        for seat in seats:
            session = self._sessions.get(seat.session_id)
            if session is not None:
                session.promised -= seat.n
                if session.promised_of:
                    session.promised_of -= Counter({self._needs[seat.keys[0]].skill: seat.n})
                self._reopen(session)
        if leased is not None:
            for seat in seats:
                self._waiting.difference_update(seat.keys)
            self._waiting |= leased.left
        for seat in seats:
            self._unname(seat.keys)
        if leased is None:
            self.look()
            return
        by_session: dict[str, list[Offer]] = defaultdict(list)
        for offer in leased.offers:
            by_session[offer.session_id].append(offer)
        for session_id, offers in by_session.items():
            session = self._sessions.get(session_id)
            if session is None:
                self.undelivered(offers)
            else:
                session.connection.offer(self._telemetry.offered(session.take(offers)))

    def _unname(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._named[key] -= 1
            if not self._named[key]:
                del self._named[key]

    def freed(self, session: Session, *leases: str) -> None:
        """Leases no longer count against the credits of their session, or of the one that replaced it."""
        session = self.newest(session)
        for lease_id in leases:
            session.leases.pop(lease_id, None)
            session.accepted.discard(lease_id)
            session.terms.pop(lease_id, None)
            self._telemetry.tracing.freed(lease_id)
        self._reopen(session)
        self._freed.set()
        if session.fits & self._waiting:
            # What began to wait while these leases were on their way back was not named to that call.
            self.look()

    async def quiet(self) -> None:
        """Wait until no session holds a lease."""
        while any(session.leases for session in self._sessions.values()):
            self._freed.clear()
            await self._freed.wait()

    def has_room(self, session: Session) -> None:
        """A session may have more room than before."""
        self._reopen(session)
        self.look()

    def _reopen(self, session: Session) -> None:
        if session.free > 0:
            for key in session.fits:
                self._open[key].setdefault(session.session_id, session)

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
            session = self._sessions.get(one.lease.session_id)
            if session is not None and one.lease.lease_id in session.leases:
                by_session[session].append(one)
            else:
                unknown.append(one.lease)
        for session, mine in by_session.items():
            session.connection.stop(mine)
        return unknown

    def _tell(self, need: Need) -> None:
        """Say that tasks wait which nobody here can do."""
        if not self._said.has(need) and not self.can_do(need):
            self._said.say(need, self.why(need))

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lease what waits to whoever has room, whenever something changes."""
        await self._begin()
        while True:
            await self._wake.wait()
            self._wake.clear()
            seats = self._all_seats()
            if not seats:
                continue
            leased: Leased | None = None
            away: StoreUnavailable | None = None
            try:
                leased = await self._store.lease(seats)
            except StoreUnavailable as error:
                log.warning("cannot lease: %s", error.message)
                away = error
            finally:
                self.settle(seats, leased)
            if away is not None:
                # It is asked again, for that a call has failed wakes this; but it may refuse at once, so not before.
                await asyncio.sleep(away.again_after)
            if leased is not None and leased.offers and leased.left:
                # There may be room for more, that a part of the store which was away did not hand over.
                self.look()

    async def _begin(self) -> None:
        """Learn what waits already; a store that is away just now is waited for."""
        while True:
            try:
                needs = await self._store.needs()
            except StoreUnavailable as error:
                log.warning("cannot look up what waits: %s", error.message)
                await asyncio.sleep(error.again_after)
                continue
            self._waiting.update(map(self.learn, needs.values()))
            self.look()
            return
