"""The dispatcher with thousands of match keys: a part of them is named to the store at a time, in turn, none lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.domain.task import RetryPolicy
from holon.engine.dispatcher import Dispatcher
from holon.engine.queued import KEYS_AT_ONCE, Queued
from holon.engine.seats import KEYS_OF_ALL
from holon.engine.session import Session
from holon.ports.tasks import Leased, Offer, Seat
from holon.telemetry.events import Telemetry

KEYS = 2_000
NEEDS = [Need("t", max_cost=number + 1) for number in range(KEYS)]
SKILL = {Offering("t", price=1): ANY_CONTRACT}
CONNECTION: Any = SimpleNamespace(offer=lambda _: None)


class Store:
    """A store with so many tasks behind each match key that it hands over; the calls that asked it."""

    def __init__(self, tasks: dict[str, int], kept: Sequence[str] = ()) -> None:
        self.tasks = tasks
        # Behind these wait tasks that no session gets.
        self.kept = set(kept)
        self.calls: list[Sequence[Seat]] = []
        self.idle = asyncio.Event()

    async def needs(self, keys: Collection[str] | None = None) -> dict[str, Need]:
        return {need.key: need for need in NEEDS if self._has(need.key) and (keys is None or need.key in keys)}

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        await asyncio.sleep(0)
        self.calls.append(seats)
        offers: list[Offer] = []
        for seat in seats:
            room = seat.n
            for key in seat.keys:
                n = min(room, self.tasks.get(key, 0))
                room -= n
                names = [f"{seat.session_id}-{key}-{self.tasks[key] - number}" for number in range(n)]
                if n:
                    self.tasks[key] -= n
                offers += [an_offer(seat, name) for name in names]
        return Leased(tuple(offers), frozenset(key for seat in seats for key in seat.keys if self._has(key)))

    def _has(self, key: str) -> bool:
        return key in self.kept or self.tasks.get(key, 0) > 0


def an_offer(seat: Seat, name: str) -> Offer:
    return Offer(
        seat.worker_id, seat.session_id, name, name, "j", "t", "", "", b"{}", 0.0, 1, 1, None, None, RetryPolicy()
    )


@asynccontextmanager
async def dispatching(store: Any, *sessions: Session) -> AsyncIterator[Dispatcher]:
    """A dispatcher that has asked for all that it asks for, for now."""
    dispatcher = Dispatcher(store, Telemetry())
    for session in sessions:
        dispatcher.add(session)
    loop = asyncio.create_task(dispatcher.run())
    await settled(store)
    yield dispatcher
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


async def settled(store: Store) -> None:
    """Until no more is asked for in several turns of the loop."""
    calls = -1
    while calls != len(store.calls):
        calls = len(store.calls)
        for _ in range(10):
            await asyncio.sleep(0)


def session(credits: int, name: str = "w") -> Session:  # noqa: A002
    return Session(name, f"s-{name}", credits, SKILL, CONNECTION)


async def test_a_worker_with_room_for_all_gets_what_waits_behind_thousands_of_keys_a_part_of_them_at_a_time() -> None:
    store = Store({need.key: 2 for need in NEEDS})
    async with dispatching(store, one := session(3 * KEYS)):
        assert len(one.leases) == 2 * KEYS
        assert max(len(seat.keys) for seats in store.calls for seat in seats) <= KEYS_AT_ONCE
        assert len(store.calls) <= KEYS // KEYS_AT_ONCE + 2


async def test_a_task_behind_any_of_thousands_of_keys_is_found_though_those_before_it_are_not_for_this_worker() -> None:
    last = NEEDS[-1].key
    store = Store({last: 1}, [need.key for need in NEEDS])
    async with dispatching(store, one := session(2)):
        assert len(one.leases) == 1
        named = Counter(key for seats in store.calls for seat in seats for key in seat.keys)
        # Once more after what was found, and no more: else the store would be asked again and again.
        assert set(named) == {need.key for need in NEEDS}
        assert max(named.values()) <= 3


async def test_thousands_of_keys_take_turns_at_a_worker_that_has_room_for_one_task_at_a_time() -> None:
    store = Store({need.key: 2 for need in NEEDS})
    async with dispatching(store, one := session(1)) as dispatcher:
        for _ in range(KEYS // KEYS_AT_ONCE + 1):
            [lease] = one.leases
            seats = dispatcher.seats_at(one, 1)
            with dispatcher.naming(seats) as named:
                named.leased = await store.lease(seats)
                dispatcher.freed(one, lease)
        assert {key for seats in store.calls for seat in seats for key in seat.keys} == {need.key for need in NEEDS}


async def test_keys_of_a_skill_that_has_no_room_do_not_keep_those_of_others_from_being_named() -> None:
    store = Store({need.key: 1 for need in NEEDS})
    other = Need("u", max_cost=1)
    both = Session("w", "s", 10, {**SKILL, Offering("u", price=1): ANY_CONTRACT}, CONNECTION)
    both.grant({("t", "", ""): 1, ("u", "", ""): None}, anew=True)
    async with dispatching(store, both) as dispatcher:
        assert len(both.leases) == 1
        dispatcher.learn(other)
        store.tasks[other.key] = 1
        await dispatcher.wait_for([other.key])
        await settled(store)
        assert len(both.leases) == 2
        assert all(seat.n > 0 for seats in store.calls for seat in seats)


async def test_whether_a_skill_has_room_is_found_without_looking_at_thousands_of_its_keys() -> None:
    class Looked(dict[str, Need]):
        at = 0

        def __getitem__(self, key: str) -> Need:
            Looked.at += 1
            return super().__getitem__(key)

    store = Store({need.key: 1 for need in NEEDS})
    limited = Session("w", "s", 10, {**SKILL, Offering("u", price=1): ANY_CONTRACT}, CONNECTION)
    limited.grant({("t", "", ""): 1, ("u", "", ""): 1}, anew=True)
    async with dispatching(store, limited) as dispatcher:
        assert len(limited.leases) == 1
        matches: Any = dispatcher._matches
        matches._needs = Looked(matches._needs)
        assert dispatcher.seats_at(limited, 5) == []
        assert Looked.at == 0
        (lease,) = limited.leases
        dispatcher.freed(limited, lease)
        (seat,) = dispatcher.seats_at(limited, 5)
        assert (seat.n, len(seat.keys)) == (1, KEYS_AT_ONCE)
        assert Looked.at < 5 * KEYS_AT_ONCE


def test_what_a_session_can_do_is_known_by_skill_whatever_comes_and_goes() -> None:
    def told() -> dict[str, set[str]]:
        return {skill: set(keys) for skill, keys in one.fits_of.items()}

    dispatcher: Any = Dispatcher(Store({}), Telemetry())  # type: ignore[arg-type]
    one, (dear, cheap, other) = session(1), (Need("t", max_cost=2), Need("t", max_cost=1), Need("u"))
    dispatcher.learn(dear)
    dispatcher.add(one)
    dispatcher.learn(cheap)
    dispatcher.learn(other)
    assert told() == {"t": {dear.key, cheap.key}}
    dispatcher.offers_changed(one, {Offering("t", price=2): ANY_CONTRACT, Offering("u"): ANY_CONTRACT})
    assert told() == {"t": {dear.key}, "u": {other.key}}
    dispatcher._matches.forget_all_but({dear.key})
    assert told() == {"t": {dear.key}}
    assert one.fits == {dear.key}


async def test_a_call_for_many_workers_names_no_more_keys_than_one_for_a_few() -> None:
    store = Store({need.key: 1 for need in NEEDS})
    sessions = [session(KEYS // 10, f"w{number}") for number in range(20)]
    async with dispatching(store, *sessions):
        assert sum(len(one.leases) for one in sessions) == KEYS
        assert max(sum(len(seat.keys) for seat in seats) for seats in store.calls) < KEYS_OF_ALL + KEYS_AT_ONCE


@pytest.mark.parametrize("workers", [8, 12])
async def test_each_key_is_named_once_for_each_of_many_workers_that_have_room_but_get_nothing(workers: int) -> None:
    keys = [need.key for need in NEEDS[: 4 * KEYS_AT_ONCE]]
    store = Store({}, keys)
    async with dispatching(store, *[session(1, f"w{number}") for number in range(workers)]):
        named = Counter((seat.session_id, key) for seats in store.calls for seat in seats for key in seat.keys)
        assert named == {(f"s-w{number}", key): 1 for number in range(workers) for key in keys}


def test_that_thousands_of_keys_wait_which_a_session_cannot_do_is_found_without_looking_at_each() -> None:
    looked = 0

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal looked
            looked += 1
            return super().__hash__()

    queued = Queued()
    queued.add(*[Key(need.key) for need in NEEDS])
    looked = 0
    assert not queued.any_of({"one", "other"})
    assert queued.any_of({"one", NEEDS[-1].key})
    assert looked == 0


async def test_what_is_known_and_begins_to_wait_is_not_lost_where_it_is_forgotten_while_others_are_looked_up() -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(Store):
        async def needs(self, keys: Collection[str] | None = None) -> dict[str, Need]:
            asked.set()
            await answered.wait()
            return await super().needs(keys)

    dispatcher: Any = Dispatcher(Slow({NEEDS[1].key: 1}), Telemetry())  # type: ignore[arg-type]
    dispatcher.add(one := session(1))
    dispatcher.learn(NEEDS[0])
    with dispatcher.naming(dispatcher.seats_for({NEEDS[0]: 1})) as call:
        found = asyncio.create_task(dispatcher.wait_for([NEEDS[0].key, NEEDS[1].key]))
        await asked.wait()
        # It was made before these began to wait.
        call.leased = Leased()
    for need in NEEDS[2:]:
        dispatcher.learn(need)
    answered.set()
    assert set(await found) == set(NEEDS[:2])
    (seat,) = dispatcher.seats_at(one, 1)
    assert set(seat.keys) == {NEEDS[0].key, NEEDS[1].key}


async def test_what_is_known_is_not_forgotten_while_thousands_more_are_looked_up() -> None:
    dispatcher: Any = Dispatcher(Store({need.key: 1 for need in NEEDS}), Telemetry())  # type: ignore[arg-type]
    for need in NEEDS[:10]:
        dispatcher.learn(need)
    assert len(await dispatcher.wait_for([need.key for need in NEEDS])) == KEYS
