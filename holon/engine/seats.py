"""Seats: room at sessions, promised to a call of the store from when it is found until it is known what was leased."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType

from holon.domain.matching import Need
from holon.engine.matches import Matches
from holon.engine.queued import Queued
from holon.engine.session import Offered, Session
from holon.ports import NO_PRICES, Seat

# So many sessions are named at once to the store for what waits: one task may, and thousands of workers be idle.
SESSIONS_AT_ONCE = 100
# About so many tasks are leased at once: many more may wait, for one worker that takes them all when it comes.
LEASES_AT_ONCE = 1_000
# And when so many match keys are named, the next sessions have theirs in another call.
KEYS_OF_ALL = 500


class Seats:
    """Finds seats, and takes the promises back.

    Arguments:
        matches: the sessions, and what they can do.
        queued: behind which match keys tasks wait.

    Attributes:
        named: by match key, how many seats of calls under way name it.
        promised: the sessions with seats of calls under way.
    """

    def __init__(self, matches: Matches, queued: Queued) -> None:
        self.named: dict[str, int] = {}
        self.promised: set[Session] = set()
        self._matches = matches
        self._queued = queued

    def __repr__(self) -> str:
        return f"Seats(sessions={len(self.promised)}, keys={len(self.named)})"

    def for_new(self, need: Need, left: int) -> Iterable[Seat]:
        """Room for so many new tasks, whose need is known to the matches, as far as there is any."""
        key = need.key
        if self._matches.choosing.chooses(need):
            for session, n in self._matches.chosen(need, left):
                yield self._seat(session, n, (key,))
            return
        while left and (found := self._matches.least_busy(key)) is not None:
            session, in_turn = found
            n = min(session.room(need), max(1, left // in_turn))
            yield self._seat(session, n, (key,))
            left -= n

    def at(self, session: Session, n: int, but: AbstractSet[str] = frozenset()) -> list[Seat]:
        """Room for what waits at a session that is about to have room for `n` more; not for all of very much.

        One seat for each offering with a limit of its own, and one for the others. Together they may be more than `n`:
        the store knows how much there is in all.

        Arguments:
            but: the match keys that are not to be named.
        """
        keys = self.next_of(session, but) if session.taking and n > 0 else ()
        if not keys:
            return []
        n = min(n, LEASES_AT_ONCE)
        if not session.limits:
            return [self._seat(session, n, keys)]
        of_each: dict[Offered | None, list[str]] = defaultdict(list)
        for key in keys:
            offered = session.offering_for(self._matches[key])
            of_each[offered if offered in session.limits else None].append(key)
        rooms = {one: None if one is None else session.left(one) for one in of_each}
        return [
            self._seat(session, n if (left := rooms[one]) is None else min(n, left), of_one)
            for one, of_one in of_each.items()
        ]

    def at_next(
        self, sessions: deque[Session], named: Mapping[str, AbstractSet[str]] = MappingProxyType({})
    ) -> list[Seat]:
        """Room for what waits at the first few of these sessions, which are taken out.

        Arguments:
            named: the match keys that are not to be named, by session.
        """
        seats: list[Seat] = []
        few = min(len(sessions), SESSIONS_AT_ONCE)
        keys, most = 0, max(1, LEASES_AT_ONCE // max(1, few))
        for _ in range(few):
            session = sessions.popleft()
            its = self.at(session, min(most, session.free), named.get(session.session_id, frozenset()))
            seats += its
            keys += sum([len(seat.keys) for seat in its])
            if keys >= KEYS_OF_ALL:
                break
        return seats

    def next_of(self, session: Session, but: AbstractSet[str] = frozenset()) -> Collection[str]:
        """The match keys that are named next for a session, without some: for what waits behind them it has room."""
        full = session.full() if session.limits else frozenset()
        of_full = {skill for skill, _, _ in full}
        if not full or of_full.isdisjoint(session.fits_of):
            return self._queued.next_of(session.fits, but)
        # Those of an offering that has no room would be named for it for good.
        left = [
            self._but(session, skill, full) if skill in of_full else keys for skill, keys in session.fits_of.items()
        ]
        left = [keys for keys in left if keys]
        return self._queued.next_of(left[0] if len(left) == 1 else set[str]().union(*left), but)

    def _but(self, session: Session, skill: str, full: AbstractSet[Offered]) -> set[str]:
        """The match keys of a skill that are not of an offering without room."""
        if len(session.offers_of(skill)) == 1:
            return set()
        return {key for key in session.fits_of[skill] if session.offering_for(self._matches[key]) not in full}

    def _seat(self, session: Session, n: int, keys: Iterable[str]) -> Seat:
        keys = tuple(keys)
        session.promise(n, self._matches[keys[0]])
        self.promised.add(session)
        for key in keys:
            self.named[key] = self.named.get(key, 0) + 1
        only = frozenset([key for key in keys if self._matches.only(key)])
        prices = NO_PRICES
        if limited := [need for need in map(self._matches.__getitem__, keys) if need.max_cost is not None]:
            prices = {need.key: price for need in limited if (price := session.price_of(need)) is not None}
        return Seat(session.worker_id, session.session_id, n, keys, only, prices)

    def free(self, seats: Sequence[Seat]) -> None:
        """The call with these seats is over: nothing is promised by them any more."""
        for seat in seats:
            session = self._matches.sessions.get(seat.session_id)
            if session is not None:
                session.unpromise(seat.n, seat.keys[0])
                if not session.promised:
                    self.promised.discard(session)
                self._matches.reopen(session)
            for key in seat.keys:
                self.named[key] -= 1
                if not self.named[key]:
                    del self.named[key]
