"""The uplink: how many tasks the parent may give: as many as leave no place idle, and others their share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

from holon.uplink.counting import Count, Counting
from holon.uplink.offerings import Offerings
from holon.uplink.places import used
from holon.uplink.serving import Held

# How long it tells what jobs take that they took so many places.
SHOWN_S = 1.0

# In all, and of each offering.
Granted: TypeAlias = tuple[int, Mapping[str, int]]


class Due:
    """Absolute credits, and never the free places alone, for those are gone once they are granted.

    More only while places would be idle: jobs that are not placed yet will take one each. Of work that takes one place
    at a time there may be as many more as there are such places. Of other work one more at first, and then as many as
    leave no place idle if they are like the jobs that are here, or just were, and never more at once than have found
    theirs: what a job will take, its first task does not tell. None of what nobody can do.

    Arguments:
        most: how many tasks this holon holds at most.
        share: which part of the places they may have while others have some.

    Attributes:
        closed: whether there are to be no more.
    """

    def __init__(self, counting: Counting, offerings: Offerings, most: int, share: float) -> None:
        self.closed = False
        self._counting = counting
        self._offerings = offerings
        self._most = most
        self._share = share
        # How many jobs had found their places of late, at the most, and how many places were in use then.
        self._shown, self._shown_until = (0, 1), 0.0

    def __repr__(self) -> str:
        return f"Due({self._counting}, closed={self.closed})"

    def __call__(self) -> Granted:
        """How many tasks there may be now."""
        able = self._offerings.able()
        if self.closed:
            return 0, dict.fromkeys(able, 0)
        count = self._counting.now()
        meant = self._meant(count)
        nothing, at_once, of_offerings = Held(), 0, dict.fromkeys(able, 0)
        for name, can in able.items():
            if not can:
                continue
            more = min(meant, max(0, self._counting.free(name, count)))
            if more and self._offerings.is_wide(name):
                more = min(more, self._wide(count, more))
            one = count.mine.get(name, nothing)
            of_offerings[name] = max(0, min(self._most, one.held + more) - one.uncounted)
            at_once = max(at_once, more)
        uncounted = sum(one.uncounted for one in count.mine.values())
        return max(0, min(self._most, count.held + at_once) - uncounted), of_offerings

    def _wide(self, count: Count, free: int) -> int:
        """How many jobs more of those that may take several places."""
        # Nothing waits for a place while one is idle: what is in use is all that the jobs ask for now. That of a moment
        # ago tells as much: short jobs end together, and those that follow are like them.
        now, placed = asyncio.get_running_loop().time(), count.placed
        if placed >= self._shown[0] or now >= self._shown_until:
            self._shown, self._shown_until = (placed, max(1, placed, used(count.sessions))), now + SHOWN_S
        placed, in_use = self._shown
        return max(1, min(placed, free * placed // in_use))

    def _meant(self, count: Count) -> int:
        """How many more there may be, so that others have their share of the places if they have any."""
        if count.others <= 0:
            return self._most
        return max(0, max(1, int(self._share * sum(session.credits for session in count.sessions))) - count.held)
