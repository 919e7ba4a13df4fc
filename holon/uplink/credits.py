"""The uplink: what the parent is told that it may give: less at once, and more not all the time."""

from __future__ import annotations

import asyncio

from holon.uplink.due import Due, Granted
from holon.uplink.offerings import Offerings
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


class Credits:
    """Grants the parent what is due, and has it offered no more, after a while, what nobody can do.

    What is less than before is told at once. What is more is told at once too, but where such words follow each other
    it waits for a moment.

    Arguments:
        link: where the parent is told.
    """

    def __init__(self, serving: Serving, offerings: Offerings, due: Due, link: Link) -> None:
        self._serving = serving
        self._offerings = offerings
        self._due = due
        self._link = link
        self._granted: Granted = (-1, {})
        # How many words of more may go now, as of that moment.
        self._raises, self._raises_at = float(RAISES_AT_ONCE), 0.0

    def __repr__(self) -> str:
        return f"Credits(granted={self._granted[0]}, {self._due})"

    def close(self) -> None:
        """Grant no more."""
        self._due.closed = True
        self._serving.changed.set()

    async def run(self) -> None:
        """Grant what is due, whenever that may have changed, until cancelled."""
        loop, look_at, rested_at = asyncio.get_running_loop(), 0.0, 0.0
        while True:
            await self._serving.changed.heard(max(look_at, rested_at), rested_at)
            # What can be done is not found out with each job that comes or goes.
            if (now := loop.time()) >= look_at:
                self.look()
                look_at = now + LOOK_S
            elif (granted := self._due()) != self._granted and not self._is_slight(granted):
                self._grant(granted)
            rested_at = loop.time() + _REST_SHARE * (loop.time() - now)

    def look(self) -> None:
        """Find out what can be done now, and tell the parent before anything that is told after this."""
        changed, granted = self._offerings.look(asyncio.get_running_loop().time()), self._due()
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

    def _is_slight(self, granted: Granted) -> bool:
        """Whether a change may wait: not if it begins or ends that there is room for anything."""
        mine = self._serving.by_skill()
        (before, of_before), (now, of_now) = self._granted, granted
        counted = sum(one.counted for one in mine.values())
        if of_before.keys() != of_now.keys() or not _is_alike(before, now, counted):
            return False
        nothing = Held()
        return all(_is_alike(of_before[name], of_now[name], mine.get(name, nothing).counted) for name in of_now)


def _less(before: Granted, now: Granted) -> Granted:
    """What is granted now, but nowhere more than before."""
    (total, of_offerings), (total_now, of_now) = before, now
    return min(total, total_now), {name: min(of_offerings.get(name, 0), one) for name, one in of_now.items()}


def _is_alike(before: int, now: int, held: int) -> bool:
    return (before > held) == (now > held) and abs(now - before) < _SLIGHT * before
