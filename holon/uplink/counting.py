"""The uplink: which places of workers are taken, by whose jobs, and how many are idle for jobs of an offering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from holon.engine.executor import Executor
from holon.engine.session import Session
from holon.uplink.offerings import Offerings
from holon.uplink.places import Idle, Places, used
from holon.uplink.providers import Providers
from holon.uplink.serving import Held, Serving


@dataclass(slots=True)
class Count:
    """What is counted once for all offerings.

    `mine` are the parent's jobs by skill, and `placed` how many of them all have places. `others` is how many tasks of
    anybody else's have places at the workers of this node, those of `sessions`. `elsewhere` is how many jobs of each
    skill have theirs at other nodes, and `idle` what is idle here.
    """

    sessions: Collection[Session]
    mine: Mapping[str, Held]
    held: int
    placed: int
    others: int
    elsewhere: Counter[str]
    idle: Idle


class Counting:
    """Counts, as far as it is seen from this node.

    Arguments:
        executor: what runs handlers.
        sessions: of this node's own workers.
        providers: who knows whether there is somebody.
        places: who knows what is idle at other nodes.
    """

    def __init__(
        self,
        serving: Serving,
        executor: Executor,
        sessions: Callable[[], Collection[Session]],
        offerings: Offerings,
        providers: Providers,
        places: Places,
    ) -> None:
        self._serving = serving
        self._executor = executor
        self._sessions = sessions
        self._offerings = offerings
        self._providers = providers
        self._places = places
        # The jobs, and their skills, that there were since other nodes told of theirs, and between that and before.
        self._seen: dict[str, str] = {}
        self._seen_then: dict[str, str] = {}
        # What other nodes told is for jobs of an offering, once that was asked for.
        self._known_there: dict[str, int | None] = {}
        # The jobs that had places at workers of this node.
        self._placed: AbstractSet[str] = frozenset()

    def __repr__(self) -> str:
        return f"Counting({self._serving}, {self._places})"

    def now(self) -> Count:
        """Count what is the same for all offerings."""
        sessions = self._sessions()
        mine = self._serving.by_skill(*self._here(sessions))
        held, unplaced = sum(one.held for one in mine.values()), sum(one.unplaced for one in mine.values())
        placed = held - unplaced
        others = sum(len(session.leases) for session in sessions) - placed
        # While nobody else has any, what waits is counted already, and calls to the store are promised places in vain.
        idle = Idle(sessions, promised=others <= 0)
        return Count(sessions, mine, held, placed, others, self._elsewhere(sessions), idle)

    def free(self, name: str, count: Count) -> int:
        """How many idle places there are for jobs of an offering that nobody waits for; below 0, more wait."""
        sharing = [one for other, one in count.mine.items() if self._offerings.share(name, other)]
        return self._idle_for(name, count) - self._waiting(count.sessions, sharing)

    def heard(self) -> None:
        """Another node tells how its places are taken; by jobs, perhaps, that ended here since it was heard before."""
        self._elsewhere(self._sessions())
        self._seen_then, self._seen, self._known_there = self._seen, {}, {}
        self._serving.changed.set()

    def _idle_for(self, name: str, count: Count) -> int:
        """How many idle places there are for them at all: for a handler, and at workers who can do it.

        Where it is not known, one: without any worker, or where those who can are at a node that has not told places.
        """
        needs = self._offerings.needs(name)
        places, there = count.idle.of(needs), self._there(name)
        if there is None or not (there or count.sessions or self._providers.anywhere_else):
            if not count.sessions or (not places and any(map(self._providers.elsewhere, needs))):
                places = 1
        else:
            there -= sum(n for skill, n in count.elsewhere.items() if self._offerings.share(name, skill))
            # Of what may take several places there is one at a time: how many it takes there is not seen.
            places += max(0, min(there, 1) if self._offerings.is_wide(name) else there)
        return min(places, self._executor.free)

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

    def _waiting(self, sessions: Collection[Session], held: Collection[Held]) -> int:
        """How many jobs wait for a place that they will take."""
        unplaced, fanned = sum(one.unplaced for one in held), sum(one.fanned for one in held)
        if self._providers.anywhere_else or not fanned:
            # What the workers of other nodes do is not seen.
            return unplaced
        # Each that waits for a fan-out takes a place at least, where somebody does its tasks.
        return unplaced + max(0, fanned - used(sessions))
