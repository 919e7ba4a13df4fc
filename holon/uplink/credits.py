"""The uplink: what the parent may give: what this holon can do now, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from holon.engine.session import Session
from holon.engine.slots import Slots
from holon.uplink.offerings import Offerings
from holon.uplink.providers import Providers
from holon.uplink.serving import Serving
from holon.worker.link import Link

# Workers come, go and get other work without a word to the uplink; how soon that counts.
LOOK_S = 1.0


class Credits:
    """Grants the parent credits: absolute, and never the free places alone, for those are gone once they are granted.

    One more at a time, while a place would be idle: jobs that are not placed yet will take one each. None of what
    nobody can do; and that is not offered any more after a while.

    Arguments:
        slots: where handlers run.
        sessions: of this node's own workers.
        providers: who knows whether there is somebody.
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
        most: int,
        share: float,
        link: Link,
    ) -> None:
        self._serving = serving
        self._slots = slots
        self._sessions = sessions
        self._offerings = offerings
        self._providers = providers
        self._most = most
        self._share = share
        self._link = link
        self._granted: tuple[int, Mapping[str, int]] = (-1, {})
        self._closed = False

    def __repr__(self) -> str:
        return f"Credits(granted={self._granted[0]}, closed={self._closed})"

    @property
    def due(self) -> tuple[int, Mapping[str, int]]:
        """How many tasks there may be now, in all and of each offering."""
        able = self._offerings.able()
        if self._closed:
            return 0, dict.fromkeys(able, 0)
        sessions = self._sessions()
        full = self._is_share_full(sessions)
        more = 0 if full else int(self._idle(sessions) > self._serving.unplaced)
        passed = {} if full else {skill: self._free_for(skill, sessions, more) for skill in self._offerings.passed}
        at_once = max((more, *passed.values()))
        of_offerings = {}
        for name, can in able.items():
            held, _ = self._serving.held_of(name)
            of_offerings[name] = min(self._most, held + passed.get(name, more)) if can else 0
        return min(self._most, self._serving.held + at_once), of_offerings

    def _idle(self, sessions: Collection[Session]) -> int:
        """How many places there are, at workers and for handlers, that a job could take."""
        # Without any worker it is not known whether there is a place: then no job may wait for one.
        idle = sum(max(0, session.free) for session in sessions) if sessions else 1
        return min(idle, self._slots.limit - self._slots.taken)

    def _free_for(self, skill: str, sessions: Collection[Session], more: int) -> int:
        """How many tasks of a skill that is passed on could begin now; of other nodes' workers that is not known."""
        if self._providers.elsewhere(skill):
            return more
        free = sum(
            max(0, session.room(skill))
            for session in sessions
            if any(offering.skill == skill for offering in session.offerings)
        )
        return max(0, free - self._serving.held_of(skill)[1])

    def _is_share_full(self, sessions: Collection[Session]) -> bool:
        """Whether others have some of the places, and the parent's tasks all that are meant for them."""
        held = self._serving.held
        others = sum(len(session.leases) for session in sessions) - (held - self._serving.unplaced)
        return others > 0 and held >= max(1, int(self._share * sum(session.credits for session in sessions)))

    def close(self) -> None:
        """Grant no more."""
        self._closed = True
        self._serving.changed.set()

    async def run(self) -> None:
        """Grant what is due, whenever that may have changed, until cancelled."""
        loop, look_at = asyncio.get_running_loop(), 0.0
        while True:
            self._serving.changed.clear()
            changed = False
            if (now := loop.time()) >= look_at:
                # Not with each job that comes or goes.
                changed, look_at = self._offerings.look(now), now + LOOK_S
            granted = self.due
            if changed:
                self._link.set_catalog(self._offerings.catalog(granted[1]))
            if granted != self._granted:
                self._granted = granted
                self._link.set_credits(*granted)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._serving.changed.wait()
            except TimeoutError:
                pass
