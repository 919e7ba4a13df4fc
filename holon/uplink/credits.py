"""The uplink: what the parent may give: what this holon can do now, and how much of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from holon.engine.session import Session
from holon.engine.slots import Slots
from holon.uplink.offerings import Offerings
from holon.uplink.places import Idle, Places, used
from holon.uplink.providers import Providers
from holon.uplink.serving import Held, Serving
from holon.worker.link import Link

# Workers come, go and get other work without a word to the uplink; how soon that counts.
LOOK_S = 1.0
# How long it does not look after it has, where there are many workers: so many times as long as that took.
_REST_SHARE = 40
# A change by less than this share is not told before it would be anyway.
_SLIGHT = 1 / 8
# Each word of more is a heartbeat, and often one of less comes after it. So many go at once, and after that one each
# time that so many seconds have passed: where a parent counts heartbeats, all of them are fewer than it takes.
RAISES_AT_ONCE, RAISE_S = 5, 1.5
# How long it tells what jobs take that they took so many places.
SHOWN_S = 1.0


# In all, and of each offering.
Granted: TypeAlias = tuple[int, Mapping[str, int]]


class Credits:
    """Grants the parent credits: absolute, and never the free places alone, for those are gone once they are granted.

    More only while places would be idle: jobs that are not placed yet will take one each. Of work that takes one place
    at a time there may be as many more as there are such places. Of other work one more at first, and then as many as
    leave no place idle if they are like the jobs that are here, or just were, and never more at once than have found
    theirs: what a job will take, its first task does not tell. None of what nobody can do; and that is not offered any
    more after a while.

    What is less than before is told at once. What is more is told at once too, but where such words follow each other
    it waits for a moment.

    Arguments:
        slots: where handlers run.
        sessions: of this node's own workers.
        providers: who knows whether there is somebody.
        places: who knows what is idle at other nodes.
        most: how many tasks it holds at most.
        share: which part of the places they may have while others have some.
        link: where the parent is told.
    """

    def __init__(
        self,
        serving: Serving,
        slots: Slots,
        sessions: Callable[[], Collection[Session]],
        offerings: Offerings,
        providers: Providers,
        places: Places,
        most: int,
        share: float,
        link: Link,
    ) -> None:
        self._serving = serving
        self._slots = slots
        self._sessions = sessions
        self._offerings = offerings
        self._providers = providers
        self._places = places
        # The jobs, and their skills, that there were since other nodes told of theirs, and between that and before.
        self._seen: dict[str, str] = {}
        self._seen_then: dict[str, str] = {}
        # What other nodes told is for jobs of an offering, once that was asked for.
        self._known_there: dict[str, int | None] = {}
        self._most = most
        self._share = share
        self._link = link
        self._granted: Granted = (-1, {})
        # How many words of more may go now, as of that moment.
        self._raises, self._raises_at = float(RAISES_AT_ONCE), 0.0
        # How many jobs had found their places of late, at the most, and how many places were in use then.
        self._shown, self._shown_until = (0, 1), 0.0
        # The jobs that had places at workers of this node.
        self._placed: AbstractSet[str] = frozenset()
        self._closed = False

    def __repr__(self) -> str:
        return f"Credits(granted={self._granted[0]}, closed={self._closed})"

    @property
    def due(self) -> Granted:
        """How many tasks there may be now."""
        able = self._offerings.able()
        if self._closed:
            return 0, dict.fromkeys(able, 0)
        sessions = self._sessions()
        mine = self._serving.by_skill(*self._here(sessions))
        held, unplaced = sum(one.held for one in mine.values()), sum(one.unplaced for one in mine.values())
        others = sum(len(session.leases) for session in sessions) - (held - unplaced)
        meant = self._meant(sessions, held, others)
        elsewhere = self._elsewhere(sessions)
        # While nobody else has any, what waits is counted already, and calls to the store are promised places in vain.
        idle = Idle(sessions, promised=others <= 0)
        nothing, at_once, of_offerings = Held(), 0, dict.fromkeys(able, 0)
        for name, can in able.items():
            if not can:
                continue
            sharing = [one for other, one in mine.items() if self._offerings.share(name, other)]
            free = self._free(sessions, name, elsewhere, idle) - self._waiting(sessions, sharing)
            more = min(meant, max(0, free))
            if more and self._offerings.is_wide(name):
                more = min(more, self._wide(sessions, more, held - unplaced))
            one = mine.get(name, nothing)
            of_offerings[name] = max(0, min(self._most, one.held + more) - one.uncounted)
            at_once = max(at_once, more)
        uncounted = sum(one.uncounted for one in mine.values())
        return max(0, min(self._most, held + at_once) - uncounted), of_offerings

    def _free(self, sessions: Collection[Session], name: str, elsewhere: Counter[str], idle: Idle) -> int:
        """How many idle places there are for jobs of an offering: for a handler, and at workers who can do it.

        Where it is not known, one: without any worker, or where those who can are at a node that has not told places.
        """
        needs = self._offerings.needs(name)
        places, there = idle.of(needs), self._there(name)
        if there is None or not (there or sessions or self._providers.anywhere_else):
            if not sessions or (not places and any(map(self._providers.elsewhere, needs))):
                places = 1
        else:
            there -= sum(n for skill, n in elsewhere.items() if self._offerings.share(name, skill))
            # Of what may take several places there is one at a time: how many it takes there is not seen.
            places += max(0, min(there, 1) if self._offerings.is_wide(name) else there)
        return min(places, self._slots.limit - self._slots.used)

    def _here(self, sessions: Collection[Session]) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """Whose places are at workers of this node, and whose were at some look; of several nodes that says nothing.

        How a job fares is seen only once the store was asked, and places that it took or left would count twice.
        """
        here = {offer.job_id for session in sessions for offer in session.leases.values()}
        jobs = {one.entry.job_id for one in self._serving.jobs}
        self._placed = (self._placed | here) & jobs
        return here, frozenset() if self._places.told else self._placed

    def _elsewhere(self, sessions: Collection[Session]) -> Counter[str]:
        """How many jobs of each skill have their places at other nodes, as far as can be known."""
        if not self._places.told:
            return Counter()
        here = {offer.job_id for session in sessions for offer in session.leases.values()}
        jobs = [one for one in self._serving.jobs if not one.fanned]
        self._seen |= {one.entry.job_id: one.entry.skill for one in jobs}
        return Counter(one.entry.skill for one in jobs if not (one.placeless or one.entry.job_id in here))

    def _there(self, name: str) -> int | None:
        """How many places other nodes have for jobs of an offering, as they told last; None: none has told."""
        if name not in self._known_there:
            jobs = {job for job, skill in self._seen_then.items() if self._offerings.share(name, skill)}
            self._known_there[name] = self._places.for_jobs(name, jobs)
        return self._known_there[name]

    def heard(self) -> None:
        """Another node tells how its places are taken; by jobs, perhaps, that ended here since it was heard before."""
        self._elsewhere(self._sessions())
        self._seen_then, self._seen, self._known_there = self._seen, {}, {}
        self._serving.changed.set()

    def _waiting(self, sessions: Collection[Session], held: Collection[Held]) -> int:
        """How many jobs wait for a place that they will take."""
        unplaced, fanned = sum(one.unplaced for one in held), sum(one.fanned for one in held)
        if self._providers.anywhere_else or not fanned:
            # What the workers of other nodes do is not seen.
            return unplaced
        # Each that waits for a fan-out takes a place at least, where somebody does its tasks.
        return unplaced + max(0, fanned - used(sessions))

    def _wide(self, sessions: Collection[Session], free: int, placed: int) -> int:
        """How many jobs more of those that may take several places."""
        # Nothing waits for a place while one is idle: what is in use is all that the jobs ask for now. That of a moment
        # ago tells as much: short jobs end together, and those that follow are like them.
        now = asyncio.get_running_loop().time()
        if placed >= self._shown[0] or now >= self._shown_until:
            self._shown, self._shown_until = (placed, max(1, placed, used(sessions))), now + SHOWN_S
        placed, in_use = self._shown
        return max(1, min(placed, free * placed // in_use))

    def _meant(self, sessions: Collection[Session], held: int, others: int) -> int:
        """How many more there may be, so that others have their share of the places if they have any."""
        if others <= 0:
            return self._most
        return max(0, max(1, int(self._share * sum(session.credits for session in sessions))) - held)

    def _is_slight(self, granted: Granted) -> bool:
        """Whether a change may wait: not if it begins or ends that there is room for anything."""
        mine = self._serving.by_skill()
        (before, of_before), (now, of_now) = self._granted, granted
        counted = sum(one.counted for one in mine.values())
        if of_before.keys() != of_now.keys() or not _is_alike(before, now, counted):
            return False
        nothing = Held()
        return all(_is_alike(of_before[name], of_now[name], mine.get(name, nothing).counted) for name in of_now)

    def close(self) -> None:
        """Grant no more."""
        self._closed = True
        self._serving.changed.set()

    def look(self) -> None:
        """Find out what can be done now, and tell the parent before anything that is told after this."""
        changed, granted = self._offerings.look(asyncio.get_running_loop().time()), self.due
        if changed:
            self._link.set_catalog(self._offerings.catalog(granted[1]))
            self._tell(granted)
        else:
            self._grant(granted)

    def _grant(self, granted: Granted) -> None:
        """Tell what is less than before at once, and what is more if that may be told now; else a later look does."""
        less = _less(self._granted, granted)
        if less == granted or self._may_raise():
            self._tell(granted)
        else:
            self._tell(less)

    def _tell(self, granted: Granted) -> None:
        if granted != self._granted:
            self._granted = granted
            self._link.set_credits(*granted)

    def _may_raise(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._raises = min(RAISES_AT_ONCE, self._raises + (now - self._raises_at) / RAISE_S)
        self._raises_at = now
        if self._raises < 1:
            return False
        self._raises -= 1
        return True

    async def run(self) -> None:
        """Grant what is due, whenever that may have changed, until cancelled."""
        loop, look_at, rested_at = asyncio.get_running_loop(), 0.0, 0.0
        while True:
            await self._serving.changed.heard(max(look_at, rested_at), rested_at)
            # What can be done is not found out with each job that comes or goes.
            if (now := loop.time()) >= look_at:
                self.look()
                look_at = now + LOOK_S
            elif (granted := self.due) != self._granted and not self._is_slight(granted):
                self._grant(granted)
            rested_at = loop.time() + _REST_SHARE * (loop.time() - now)


def _less(before: Granted, now: Granted) -> Granted:
    """What is granted now, but nowhere more than before."""
    (total, of_offerings), (total_now, of_now) = before, now
    return min(total, total_now), {name: min(of_offerings.get(name, 0), one) for name, one in of_now.items()}


def _is_alike(before: int, now: int, held: int) -> bool:
    return (before > held) == (now > held) and abs(now - before) < _SLIGHT * before
