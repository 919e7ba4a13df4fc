"""Wakeups: what a hint tells while the store is asked is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from holon.domain.matching import Need
from holon.engine.wakeups import Wakeups
from holon.errors import StoreUnavailable
from holon.ports import Fired, Hint

GUARD = 10.0
NEVER = 10**15


class Timers:
    """A store that is told of a timer that is due now, while it says that the earliest timer is far away."""

    def __init__(self) -> None:
        self.fired = 0
        self.again = asyncio.Event()
        self._told: Callable[[Hint], None] = lambda _: None

    def now(self) -> int:
        return 1

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        self._told = told
        return lambda: None

    async def fire(self, limit: int) -> Fired:
        self.fired += 1
        if self.fired == 1:
            self._told(Hint(due=1))
        else:
            self.again.set()
        return Fired(NEVER)


class Deaf:
    """Who watches and follows no job."""

    def changed(self, jobs: frozenset[str]) -> None:
        pass


async def caught_up() -> None:
    """Nothing has stood still."""


def wakeups_of(store: Any) -> Wakeups:
    deaf: Any = Deaf()
    nothing: Any = None
    return Wakeups(store, nothing, nothing, nothing, deaf, deaf, nothing, caught_up)


async def test_a_timer_that_a_hint_tells_of_while_others_are_fired_is_fired_when_it_is_due() -> None:
    store: Any = Timers()
    running = asyncio.create_task(wakeups_of(store).run())
    async with asyncio.timeout(GUARD):
        await store.again.wait()
    running.cancel()
    await asyncio.wait([running])
    assert store.fired == 2


class Quiet:
    """A store that hints when it is told to."""

    def __init__(self) -> None:
        self.told: Callable[[Hint], None] = lambda _: None

    def now(self) -> int:
        return 1

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        self.told = told
        return lambda: None

    async def fire(self, limit: int) -> Fired:
        return Fired(None)


class Waiting:
    """The match keys of which tasks wait, as a dispatcher knows them."""

    def __init__(self) -> None:
        self.keys = {"k"}
        self.placed = asyncio.Event()

    async def wait_for(self, keys: Iterable[str]) -> Sequence[Need]:
        self.keys.update(keys)
        self.placed.set()
        return ()


async def test_i6_a_task_that_began_to_wait_since_is_not_forgotten_by_who_leased_those_before() -> None:
    store, waiting = Quiet(), Waiting()
    parts: list[Any] = [
        store,
        waiting,
        None,
        SimpleNamespace(waiting=lambda needs: None),
        Deaf(),
        Deaf(),
        None,
        caught_up,
    ]
    wakeups = Wakeups(*parts)
    running = asyncio.create_task(wakeups.run())
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[None] = loop.create_future()

    async def leases_the_last() -> None:
        await reply
        waiting.keys.discard("k")

    caller = asyncio.create_task(leases_the_last())
    await asyncio.sleep(0)

    def three_commits_are_told() -> None:
        store.told(Hint(keys=frozenset({"another"})))
        reply.set_result(None)
        store.told(Hint(keys=frozenset({"k"})))

    loop.call_soon(three_commits_are_told)
    async with asyncio.timeout(GUARD):
        await waiting.placed.wait()
        await caller
    running.cancel()
    await asyncio.wait([running])
    assert waiting.keys == {"another", "k"}


async def test_who_watches_is_told_at_once_and_then_who_follows_before_what_a_reply_of_the_turn_brings() -> None:
    store, told = Quiet(), list[Any]()
    watching = SimpleNamespace(changed=lambda jobs: told.append(("watching", set(jobs))))
    following = SimpleNamespace(changed=lambda jobs: told.append(("following", set(jobs))))
    parts: list[Any] = [store, None, None, None, watching, following, None, caught_up]
    running = asyncio.create_task(Wakeups(*parts).run())
    reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def creates() -> None:
        await reply
        told.append("the reply")

    caller = asyncio.create_task(creates())
    await asyncio.sleep(0)

    def commits_are_told() -> None:
        store.told(Hint(jobs=frozenset({"a"})))
        reply.set_result(None)
        store.told(Hint(jobs=frozenset({"b", "c"})))

    asyncio.get_running_loop().call_soon(commits_are_told)
    await caller
    running.cancel()
    await asyncio.wait([running])
    first, second = {"a"}, {"b", "c"}
    assert told == [
        ("watching", first),
        ("following", first),
        ("watching", second),
        ("following", second),
        "the reply",
    ]


class AwayAtFirst(Waiting):
    """The same, as long as the store refuses to say with which needs: the first time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def wait_for(self, keys: Iterable[str]) -> Sequence[Need]:
        if not self.refused:
            self.refused += 1
            raise StoreUnavailable("the store has 10000 calls waiting", retry_after=0.001)
        return await super().wait_for(keys)


async def test_i6_what_began_to_wait_while_the_store_refused_calls_is_looked_up_once_it_takes_them() -> None:
    store, waiting = Quiet(), AwayAtFirst()
    rekeying = SimpleNamespace(waiting=lambda needs: None)
    parts: list[Any] = [store, waiting, None, rekeying, Deaf(), Deaf(), None, caught_up]
    running = asyncio.create_task(Wakeups(*parts).run())
    await asyncio.sleep(0)
    store.told(Hint(keys=frozenset({"lost"})))
    async with asyncio.timeout(GUARD):
        await waiting.placed.wait()
    running.cancel()
    await asyncio.wait([running])
    assert waiting.keys == {"k", "lost"}
    assert waiting.refused == 1
