"""The dispatcher: seats are found among however many sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.engine.dispatcher import Dispatcher
from holon.engine.matches import MOST_NEEDS
from holon.engine.session import Session
from holon.errors import StoreUnavailable
from holon.ports import LeaseRef, Offer, Stop, StopReason
from holon.ports.tasks import Leased, Seat
from holon.telemetry.events import Telemetry

SKILL = {Offering("t"): ANY_CONTRACT}


def test_the_one_session_with_room_is_found_behind_thousands_without() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    for number in range(2_000):
        dispatcher.add(Session(f"w{number}", f"s{number}", 0, SKILL, nothing))
    assert dispatcher.seats_for({Need("t"): 3}) == []
    dispatcher.add(Session("w", "s", 1, SKILL, nothing))
    for number in range(2_000):
        session = dispatcher.session(f"s{number}")
        assert session is not None
        dispatcher.has_room(session)
    assert [seat.session_id for seat in dispatcher.seats_for({Need("t"): 3})] == ["s"]


class Asked:
    """A store in which nothing ever waits, and what it was asked to lease."""

    def __init__(self) -> None:
        self.seats: asyncio.Queue[Seat] = asyncio.Queue()

    async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
        return {}

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        for seat in seats:
            self.seats.put_nowait(seat)
        return Leased(left=frozenset(key for seat in seats for key in seat.keys))


async def turns() -> None:
    """Whatever the dispatcher would ask, it asks in these turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_begins_to_wait_while_a_lease_is_on_its_way_back_is_leased_when_it_is_there() -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w", "s", 2, SKILL, nothing)
    dispatcher.add(session)
    dispatcher.learn(Need("t"))
    loop = asyncio.create_task(dispatcher.run())
    await dispatcher.wait_without([], [Need("t")])
    assert (await store.seats.get()).n == 2
    session.leases.update({"first": nothing, "second": nothing})
    dispatcher.freed(session, "first")
    async with asyncio.timeout(10):
        assert (await store.seats.get()).n == 1
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


async def test_what_begins_to_wait_while_another_call_has_the_room_is_leased_when_that_call_leased_nothing() -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w", "s", 1, {**SKILL, Offering("u"): ANY_CONTRACT}, nothing)
    dispatcher.add(session)
    loop = asyncio.create_task(dispatcher.run())
    with dispatcher.naming(dispatcher.seats_for({Need("t"): 1})) as named:
        dispatcher.learn(Need("u"))
        await dispatcher.wait_without([], [Need("u")])
        await turns()
        assert store.seats.empty()
        named.leased = Leased()
    async with asyncio.timeout(10):
        assert (await store.seats.get()).keys == (Need("u").key,)
    await turns()
    assert store.seats.empty()
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


def test_a_lease_of_a_replaced_session_frees_room_at_the_one_that_replaced_it() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    old, new = Session("w", "old", 1, SKILL, nothing), Session("w", "new", 1, SKILL, nothing)
    dispatcher.add(old)
    dispatcher.remove(old)
    dispatcher.add(new)
    new.leases["l"] = nothing
    dispatcher.freed(old, "l")
    assert [seat.session_id for seat in dispatcher.seats_for({Need("t"): 1})] == ["new"]


async def test_needs_that_nothing_waits_with_are_forgotten_and_learned_again() -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w", "s", 2, SKILL, nothing)
    dispatcher.add(session)
    waiting, asked = Need("t", contracts=("waiting",)), Need("t", contracts=("asked",))
    dispatcher.learn(waiting)
    await dispatcher.wait_for([waiting.key])
    (seat,) = dispatcher.seats_for({asked: 1})
    with dispatcher.naming([seat]) as named:
        for number in range(5 * MOST_NEEDS):
            dispatcher.learn(Need("t", contracts=(f"c{number}",)))
        assert len(session.fits) <= 2 * MOST_NEEDS
        named.leased = Leased(left=frozenset({asked.key}))
    (both,) = dispatcher.seats_at(session, 1)
    assert set(both.keys) == {waiting.key, asked.key}
    (again,) = dispatcher.seats_for({Need("t", contracts=("c1",)): 1})
    assert again.session_id == "s"


def test_a_session_that_was_replaced_ends_once_more_after_needs_were_forgotten() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    session = Session("w", "s", 1, SKILL, nothing)
    dispatcher.add(session)
    dispatcher.learn(Need("t"))
    dispatcher.remove(session)
    for number in range(2 * MOST_NEEDS):
        dispatcher.learn(Need("t", contracts=(f"c{number}",)))
    dispatcher.remove(session)
    assert not dispatcher.sessions


async def test_a_store_that_is_away_when_the_dispatcher_begins_is_waited_for() -> None:
    class Away(Asked):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
            self.asked += 1
            if self.asked == 1:
                raise StoreUnavailable("the store is away", retry_after=0.001)
            return {Need("t").key: Need("t")}

    store: Any = Away()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    dispatcher.add(Session("w", "s", 1, SKILL, nothing))
    loop = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(10):
        assert (await store.seats.get()).session_id == "s"
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


def test_a_stop_of_a_lease_that_no_session_has_is_brought_to_nobody_and_told() -> None:
    class Told:
        def __init__(self) -> None:
            self.stops: list[Stop] = []

        def stop(self, stops: Sequence[Stop]) -> None:
            self.stops += stops

    nothing: Any = None
    connection: Any = Told()
    dispatcher = Dispatcher(nothing, Telemetry())
    session = Session("w", "s", 2, SKILL, connection)
    dispatcher.add(session)
    session.leases["held"] = nothing
    held, lost, other = (
        Stop(LeaseRef("w", "s" if lease != "other" else "gone", "t", lease), StopReason.LEASE_LOST)
        for lease in ("held", "lost", "other")
    )
    assert dispatcher.stop([held, lost, other]) == [lost.lease, other.lease]
    assert connection.stops == [held]


async def test_a_store_that_refuses_at_once_is_asked_again_later_whatever_happens_meanwhile() -> None:
    calls = 0

    class Refusing:
        async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
            return {Need("t").key: Need("t")}

        async def lease(self, seats: Sequence[Seat]) -> Leased:
            nonlocal calls
            calls += 1
            # A loop that does not wait is ended by this: it would never let the test go on.
            assert calls < 100
            raise StoreUnavailable("the store has as many calls waiting as it may", retry_after=3_600)

    store: Any = Refusing()
    connection: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w", "s", 1, SKILL, connection)
    dispatcher.add(session)
    running = asyncio.create_task(dispatcher.run())
    for _ in range(20):
        await asyncio.sleep(0)
        dispatcher.has_room(session)
    assert calls == 1
    assert session.promised == 0
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_what_a_part_of_the_store_did_not_hand_over_is_asked_for_again_where_there_is_room() -> None:
    class Partly(Asked):
        """Hands over one task a call, of three."""

        def __init__(self) -> None:
            super().__init__()
            self.left = 3

        async def needs(self, _: Collection[str] | None = None) -> dict[str, Need]:
            return {Need("t").key: Need("t")}

        async def lease(self, seats: Sequence[Seat]) -> Leased:
            self.left -= 1
            nothing: Any = None
            offer = Offer("w", "s", "t", f"l{self.left}", "j", "t", "", "", b"", 0.0, 1, 1, None, None, nothing)
            return Leased((offer,), frozenset(seats[0].keys if self.left else ()))

    class Sent:
        def __init__(self) -> None:
            self.offers: asyncio.Queue[str] = asyncio.Queue()

        def offer(self, offers: Sequence[Offer]) -> None:
            for offer in offers:
                self.offers.put_nowait(offer.lease_id)

    store: Any = Partly()
    connection: Any = Sent()
    dispatcher = Dispatcher(store, Telemetry())
    dispatcher.add(Session("w", "s", 5, SKILL, connection))
    running = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(10):
        assert [await connection.offers.get() for _ in range(3)] == ["l2", "l1", "l0"]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
