"""The dispatcher with thousands of workers: what it costs to ask about one task does not grow with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from holon.domain.matching import ANY_CONTRACT, Asking, Need, Offering
from holon.domain.task import RetryPolicy
from holon.engine.dispatcher import Dispatcher
from holon.engine.seats import LEASES_AT_ONCE, SESSIONS_AT_ONCE
from holon.engine.session import Session
from holon.errors import StoreUnavailable
from holon.ports.tasks import Leased, Offer, Seat
from holon.telemetry.events import Telemetry

CROWD = 5_000
T, U = Need("t"), Need("u")
SKILL = {Offering("t"): ANY_CONTRACT}
NOTHING: Any = None


class Counted(Session):
    """A session that counts how often its room, and what it offers, are looked at; all of them together."""

    looked = 0

    @property
    def free(self) -> int:
        Counted.looked += 1
        return super().free

    def can(self, need: Asking) -> bool:
        Counted.looked += 1
        return super().can(need)

    def offers_of(self, skill: str) -> list[Offering]:
        Counted.looked += 1
        return super().offers_of(skill)


class Offerings(tuple[Offering, ...]):
    """Offerings that count how often they are gone through."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Offering]:
        Counted.looked += 1
        return super().__iter__()


class CountedKeys(set[str]):
    """Match keys that count how often one of them is looked for, or looked at."""

    looked = 0

    def __contains__(self, key: object) -> bool:
        CountedKeys.looked += 1
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            CountedKeys.looked += 1
            yield key

    def isdisjoint(self, others: Iterable[Any], /) -> bool:
        CountedKeys.looked += len([*others])
        return super().isdisjoint(others)


def crowd(granted: int, offerings: Mapping[Offering, str] = SKILL) -> Dispatcher:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    for number in range(CROWD):
        dispatcher.add(Counted(f"w{number}", f"s{number}", granted, offerings, NOTHING))
    Counted.looked = 0
    return dispatcher


def test_why_a_thousand_tasks_wait_while_thousands_of_workers_are_busy_is_told_without_looking_at_each_again() -> None:
    dispatcher = crowd(granted=0)
    told = {dispatcher.why(T) for _ in range(1_000)}
    assert told == {"waiting: every worker with skill 't' is busy"}
    assert Counted.looked <= 2 * CROWD


def test_why_a_thousand_tasks_wait_that_no_worker_can_do_is_found_once_until_that_changes() -> None:
    dispatcher = crowd(granted=1)
    told = {dispatcher.why(Need("t", "2")) for _ in range(1_000)}
    assert told == {"waiting: no worker connected to this node offers skill 't' in version '2'"}
    # Once to learn who can do it, and once for the reason.
    assert Counted.looked == 2 * CROWD
    told = {dispatcher.why(U) for _ in range(1_000)}
    assert told == {"waiting: no worker connected to this node offers skill 'u'"}
    assert Counted.looked == 2 * CROWD
    one = Session("w", "s", 0, {Offering("u"): ANY_CONTRACT}, NOTHING)
    dispatcher.add(one)
    assert dispatcher.why(U) == "waiting: every worker with skill 'u' is busy"
    dispatcher.offers_changed(one, {Offering("u", "2"): ANY_CONTRACT})
    versioned = Need("u", "1")
    missing = "waiting: no worker connected to this node offers skill 'u' in version '1'"
    assert dispatcher.why(versioned) == missing
    dispatcher.remove(one)
    assert dispatcher.why(versioned) == "waiting: no worker connected to this node offers skill 'u'"


def test_nothing_is_said_of_a_task_for_which_a_call_has_a_seat_until_that_call_is_over() -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    dispatcher.add(Session("w", "s", 1, SKILL, NOTHING))
    with dispatcher.naming(dispatcher.seats_for({T: 1})) as named:
        assert dispatcher.why(T) == ""
        named.leased = Leased()
    assert "is free" in dispatcher.why(T)
    dispatcher.seats_for({T: 1})
    for session in list(dispatcher.sessions):
        dispatcher.remove(session)
    assert dispatcher.why(T) == "waiting: no worker connected to this node offers skill 't'"


def test_a_session_is_matched_with_a_need_by_what_it_offers_of_its_skill_alone() -> None:
    session = Session("w", "s", 1, {Offering(f"t{n}"): ANY_CONTRACT for n in range(1_000)}, NOTHING)
    session.offerings = Offerings(session.offerings)
    Counted.looked = 0
    assert session.can(Need("t7"))
    assert not session.can(T)
    assert Counted.looked == 0


class Store:
    """A store in which tasks wait that only some sessions take; the calls that asked it."""

    def __init__(self, taken_by: str = "", *, away: int = 0) -> None:
        self.calls: list[list[str]] = []
        self._taken_by = taken_by
        self._away = away
        self.over = asyncio.Event()

    async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
        return {}

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        names = [seat.session_id for seat in seats]
        self.calls.append(names)
        if len(self.calls) <= self._away:
            raise StoreUnavailable("the store is away", retry_after=0.001)
        if not self._taken_by or self._taken_by in names:
            self.over.set()
            return Leased()
        return Leased(left=frozenset(key for seat in seats for key in seat.keys))


@asynccontextmanager
async def asking(store: Any) -> AsyncIterator[None]:
    """A task waits, and a crowd is idle, until the store has nothing left."""
    dispatcher = Dispatcher(store, Telemetry())
    for number in range(CROWD):
        dispatcher.add(Session(f"w{number}", f"s{number}", 1, SKILL, NOTHING))
    dispatcher.learn(T)
    loop = asyncio.create_task(dispatcher.run())
    await dispatcher.wait_for([T.key])
    async with asyncio.timeout(10):
        await store.over.wait()
        # Whatever else it would ask, it asks in these turns.
        for _ in range(10):
            await asyncio.sleep(0)
    yield
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


async def test_for_one_task_that_waits_a_few_of_thousands_of_idle_workers_are_named() -> None:
    store = Store()
    async with asking(store):
        assert [len(names) for names in store.calls] == [SESSIONS_AT_ONCE]


async def test_a_task_that_the_first_workers_do_not_get_comes_to_the_one_that_does() -> None:
    store = Store(f"s{CROWD - 1}")
    async with asking(store):
        named = [name for names in store.calls for name in names]
        assert len(named) == len(set(named)) == CROWD


async def test_a_store_that_is_away_is_asked_again_for_the_first_workers() -> None:
    store = Store(away=2)
    async with asking(store):
        first, *others = store.calls
        assert others == [first, first]


class Backlog:
    """A store in which many tasks wait that any session takes; for how many it was asked each time, and by whom."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks
        self.asked: list[int] = []
        self.leased: Counter[str] = Counter()
        self.over = asyncio.Event()

    async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
        return {T.key: T}

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        self.asked.append(sum(seat.n for seat in seats))
        offers = []
        for seat in seats:
            n = min(seat.n, self.left)
            self.left -= n
            made = range(self.leased[seat.session_id], self.leased[seat.session_id] + n)
            offers += [an_offer(seat, f"{seat.session_id}-{number}") for number in made]
            self.leased[seat.session_id] += n
        if not self.left:
            self.over.set()
        return Leased(tuple(offers), frozenset([T.key] if self.left else []))


def an_offer(seat: Seat, name: str) -> Offer:
    return Offer(
        seat.worker_id, seat.session_id, name, name, "j", "t", "", "", b"{}", 0.0, 1, 1, None, None, RetryPolicy()
    )


@pytest.mark.parametrize("workers", [1, 3, SESSIONS_AT_ONCE])
async def test_workers_with_much_room_get_what_waits_a_part_at_a_time_until_they_have_all_that_they_can(
    workers: int,
) -> None:
    room = 5 * LEASES_AT_ONCE // workers
    store = Backlog(workers * room)
    dispatcher = Dispatcher(store, Telemetry())  # type: ignore[arg-type]
    connection: Any = SimpleNamespace(offer=lambda _: None)
    for number in range(workers):
        dispatcher.add(Session(f"w{number}", f"s{number}", room, SKILL, connection))
    loop = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(10):
        await store.over.wait()
    loop.cancel()
    assert max(store.asked) <= LEASES_AT_ONCE
    assert store.leased == {f"s{number}": room for number in range(workers)}


async def test_whoever_names_a_worker_with_much_room_gets_a_part_for_it_and_the_rest_is_asked_for_after_that() -> None:
    room = 5 * LEASES_AT_ONCE
    store = Backlog(room)
    dispatcher = Dispatcher(store, Telemetry())  # type: ignore[arg-type]
    connection: Any = SimpleNamespace(offer=lambda _: None)
    session = Session("w", "s", room, SKILL, connection)
    dispatcher.add(session)
    loop = asyncio.create_task(dispatcher.run())
    await dispatcher.wait_for([T.key])
    # As with a result, or with news of its credits.
    with dispatcher.naming(dispatcher.seats_at(session, session.free)) as named:
        named.leased = await store.lease(named.seats)
    async with asyncio.timeout(10):
        await store.over.wait()
    loop.cancel()
    assert max(store.asked) <= LEASES_AT_ONCE
    assert store.leased == {"s": room}


def test_needs_of_another_skill_are_learned_without_a_look_at_thousands_of_workers() -> None:
    dispatcher = crowd(granted=1)
    for number in range(1_000):
        dispatcher.learn(Need("u", max_cost=number))
    assert Counted.looked == 0


def test_a_worker_comes_without_a_look_at_thousands_of_needs_of_other_skills() -> None:
    dispatcher = crowd(granted=1)
    needs = [Need("u", max_cost=number) for number in range(500)]
    keys = [dispatcher.learn(need) for need in needs]
    one = Counted("w", "s", 1, SKILL, NOTHING)
    dispatcher.add(one)
    assert Counted.looked <= 2
    dispatcher.offers_changed(one, {Offering("u", price=499): ANY_CONTRACT})
    assert one.fits == {keys[-1]}
    assert dispatcher.can_do(needs[-1])
    dispatcher.offers_changed(one, SKILL)
    assert not one.fits
    assert dispatcher.why(needs[-1]) == "waiting: no worker connected to this node offers skill 'u'"


def test_what_waits_for_nobody_behind_thousands_of_keys_costs_no_idle_worker_a_look_at_each() -> None:
    dispatcher = crowd(granted=1)
    dispatcher.learn(T)
    for session in dispatcher.sessions:
        session.fits = CountedKeys(session.fits)
    for number in range(2 * CROWD):
        dispatcher._waiting.add(dispatcher.learn(Need("u", max_cost=number)))
    CountedKeys.looked = 0
    assert dispatcher._matches.with_room(dispatcher._waiting) == []
    dispatcher.freed(next(iter(dispatcher.sessions)))
    assert CountedKeys.looked <= 2 * (CROWD + 1)


def test_who_has_room_is_looked_at_once_however_many_keys_he_could_take_something_of() -> None:
    dispatcher = crowd(granted=1, offerings={Offering("t", price=1): ANY_CONTRACT})
    for number in range(1, 21):
        dispatcher._waiting.add(dispatcher.learn(Need("t", max_cost=number)))
    Counted.looked = 0
    assert len(dispatcher._matches.with_room(dispatcher._waiting)) == CROWD
    assert Counted.looked <= 2 * CROWD
