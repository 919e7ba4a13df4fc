"""Choosing: which sessions get tasks that would rather have some than others. A preference: none waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heapreplace

from holon.domain.matching import Need
from holon.domain.strategies import Candidate, Rank, rank
from holon.engine.queued import Queued
from holon.engine.session import Session, business

# So many are compared at most for a task: those with room, in turn.
MOST_COMPARED = 1_000
# So many tasks a worker has before dearer ones get some, where a task says so.
SOFT_LIMIT = 3


class Choosing:
    """Knows which needs choose, and compares the sessions that they choose from.

    Arguments:
        soft_limit: as in `rank` of the strategies.
    """

    def __init__(self, soft_limit: int = SOFT_LIMIT) -> None:
        self._soft_limit = soft_limit
        # The match keys of needs that say whom they would rather have.
        self._choosy: set[str] = set()
        # What each session has loaded; and by skill, how many have it.
        self._loaded: dict[str, frozenset[str]] = {}
        self._hot: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Choosing(choosy={len(self._choosy)}, hot={len(self._hot)})"

    def learn(self, need: Need) -> None:
        """A need is known from now on."""
        if need.strategy or need.hint:
            self._choosy.add(need.key)

    def forget(self, key: str) -> None:
        """And not any more."""
        self._choosy.discard(key)

    def loaded(self, session: Session, skills: frozenset[str]) -> None:
        """A session has these skills loaded from now on."""
        before = self._loaded.pop(session.session_id, frozenset())
        if skills:
            self._loaded[session.session_id] = skills
        for skill in skills - before:
            self._hot[skill] += 1
        for skill in before - skills:
            self._hot[skill] -= 1
            if not self._hot[skill]:
                del self._hot[skill]

    def chooses(self, need: Need) -> bool:
        """Whether tasks with this need would rather have some of the sessions than others."""
        return bool(need.strategy or need.hint) or need.skill in self._hot

    def first(self, waiting: Queued, of_skill: Mapping[str, AbstractSet[str]]) -> str | None:
        """A match key of those behind which tasks wait that choose; None: there is none.

        Arguments:
            of_skill: the match keys of each skill.
        """
        some = waiting.all_of(self._choosy) if self._choosy else frozenset()
        for skill in () if some else self._hot:
            some = waiting.all_of(of_skill.get(skill, frozenset()))
            if some:
                break
        return min(some) if some else None

    def in_order(self, need: Need, sessions: Iterable[Session]) -> list[Session]:
        """Sessions with room, those first that a need would rather have."""
        return sorted(sessions, key=lambda one: (need.key not in one.fits, self._rank(need, one, 0, 0), business(one)))

    def gets(self, need: Need, sessions: Iterable[Session], left: int) -> list[tuple[Session, int]]:
        """Who gets so many tasks of a need, as far as there is room: how many of them, those first who get the first.

        Arguments:
            sessions: those with room, in turn.
        """
        some = [(self._rank(need, one, place, 0), place, one.room(need), one) for place, one in enumerate(sessions)]
        heapify(some)
        found: dict[Session, int] = {}
        place = len(some)
        while left and some:
            _, _, room, session = some[0]
            left, place = left - 1, place + 1
            got = found[session] = found.get(session, 0) + 1
            if got < room:
                heapreplace(some, (self._rank(need, session, place, got), place, room, session))
            else:
                heappop(some)
        return list(found.items())

    def _rank(self, need: Need, session: Session, place: int, more: int) -> Rank:
        """Where a session stands; `more` are tasks that it is about to get."""
        held = len(session.leases) + session.promised + more
        one = Candidate(
            session.price_of(need),
            held,
            held / max(1, session.credits),
            session.has_hot(need.skill),
            session.has_cached(need.hint),
            place,
            session.reputation_of(need.skill),
        )
        return rank(need.strategy, one, self._soft_limit)
