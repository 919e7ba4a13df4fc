"""The dispatcher: seats are found among however many sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import pytest

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


def test_of_the_prices_of_a_skill_the_dearest_counts_up_to_a_limit_and_where_all_are_beyond_it_the_least() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    for n in (3, 7, 5):
        dispatcher.add(Session(f"w{n}", f"s{n}", 1, {Offering("t", price=n): ANY_CONTRACT}, nothing))
    dispatcher.add(Session("w", "s", 1, {Offering("u"): ANY_CONTRACT}, nothing))
    assert [dispatcher.price("t", within) for within in (10, 7, 6, 4, 3, 2, 0)] == [7, 7, 6, 4, 3, 3, 3]
    assert dispatcher.price("u", 10) is dispatcher.price("other", 10) is None


def test_the_prices_of_a_skill_are_looked_for_among_all_sessions_once() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    cheap, dear = (Session(f"w{n}", f"s{n}", 1, {Offering("t", price=n): ANY_CONTRACT}, nothing) for n in (3, 7))
    looked = 0

    class Prices(dict[str, int]):
        def __getitem__(self, skill: str) -> int:
            nonlocal looked
            looked += 1
            return super().__getitem__(skill)

    dispatcher.add(cheap)
    assert (dispatcher.price("t", 9), dispatcher.price("other", 9)) == (3, None)
    dispatcher.add(dear)
    cheap.prices, dear.prices = Prices(cheap.prices), Prices(dear.prices)
    assert {dispatcher.price("t", 9) for _ in range(1_000)} == {7}
    assert looked == 2
    dispatcher.remove(dear)
    assert dispatcher.price("t", 9) == 3
    dispatcher.offers_changed(cheap, {})
    assert dispatcher.price("t", 9) is None


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
        await waits(dispatcher, Need("u"))
        await asyncio.sleep(0.01)
        assert store.seats.empty()
        named.leased = Leased()
    async with asyncio.timeout(10):
        assert (await store.seats.get()).keys == (Need("u").key,)
    await asyncio.sleep(0.01)
    assert store.seats.empty()
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


async def waits(dispatcher: Dispatcher, need: Need) -> None:
    """A task waits that no call had a seat for."""
    dispatcher.learn(need)
    await dispatcher.wait_without([], [need])


async def test_that_nobody_is_there_is_said_once_whatever_contracts_are_known_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    before, with_it = Need("t"), Need("t", contracts=("c",))
    said = ["tasks wait: no worker connected to this node offers skill 't'"]
    await waits(dispatcher, before)
    # Its worker is about to come: the contract is known, and the worker not yet there.
    await waits(dispatcher, with_it)
    assert caplog.messages == said
    session = Session("w", "s", 2, {Offering("t", contract="c"): ANY_CONTRACT}, nothing)
    dispatcher.add(session)
    dispatcher.remove(session)
    await waits(dispatcher, with_it)
    assert caplog.messages == said * 2


async def test_who_can_do_what_is_learned_while_he_is_there_is_missed_when_he_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    await waits(dispatcher, Need("t"))
    session = Session("w", "s", 2, {Offering("t", contract="c"): ANY_CONTRACT}, nothing)
    dispatcher.add(session)
    dispatcher.learn(Need("t", contracts=("c",)))
    dispatcher.remove(session)
    await waits(dispatcher, Need("t", contracts=("c",)))
    assert len(caplog.messages) == 2


async def test_of_thousands_of_tasks_that_are_each_too_cheap_it_is_said_once_though_others_can_be_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    dispatcher.add(Session("w", "s", 2, {Offering("t", price=100): ANY_CONTRACT}, nothing))
    for cost in range(1, 100):
        await waits(dispatcher, Need("t", max_cost=cost))
        await waits(dispatcher, Need("t", max_cost=100 + cost))
    (said,) = caplog.messages
    assert "declares a price within max_cost 1" in said
    dispatcher.add(Session("x", "x", 2, {Offering("t", price=50): ANY_CONTRACT}, nothing))
    await waits(dispatcher, Need("t", max_cost=49))
    assert caplog.messages == [said, said.replace("max_cost 1", "max_cost 49")]


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


def offers(session: Session, **held: str) -> None:
    """A session holds these leases of these skills."""
    nothing: Any = None
    session.take(
        [
            Offer("w", "s", "t", lease, "j", skill, "", "", b"", 0.0, 1, 1, None, None, nothing)
            for lease, skill in held.items()
        ]
    )


def test_a_skill_with_credits_of_its_own_gets_no_more_than_those_and_the_others_the_rest() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    session = Session("w", "s", 10, dict.fromkeys((Offering("limited"), Offering("free")), ANY_CONTRACT), nothing)
    session.grant({("limited", "", ""): 3, ("free", "", ""): None}, anew=True)
    dispatcher.add(session)
    offers(session, first="limited", second="free")
    limited, free = Need("limited"), Need("free")
    (seat,) = dispatcher.seats_for({limited: 9})
    with dispatcher.naming([seat]):
        assert (seat.n, dispatcher.seats_for({limited: 1})) == (2, [])
        assert [one.n for one in dispatcher.seats_for({free: 9})] == [6]

    # Nothing is left at 0; the other skill is not held up by that.
    assert session.grant({("limited", "", ""): 0, ("unknown", "", ""): 7})
    dispatcher.has_room(session)
    assert dispatcher.seats_for({limited: 1}) == []
    session.grant({("limited", "", ""): 2})
    dispatcher.has_room(session)
    assert [one.n for one in dispatcher.seats_for({limited: 9})] == [1]


def test_what_is_held_of_a_limited_skill_is_known_whatever_comes_and_goes() -> None:
    nothing: Any = None
    session = Session("w", "s", 100, dict.fromkeys((Offering("t"), Offering("u")), ANY_CONTRACT), nothing)
    offers(session, first="t", second="u")
    session.grant({("t", "", ""): 5, ("u", "", ""): None}, anew=True)
    assert (session.left("t"), session.left("u")) == (4, None)
    offers(session, first="t", third="t")
    assert session.left("t") == 3
    session.grant({("t", "", ""): 4, ("u", "", ""): 2})
    assert (session.left("t"), session.left("u")) == (2, 1)
    for lease in ("first", "first", "unknown"):
        session.let_go(lease)
    assert (session.left("t"), session.left("u")) == (3, 1)
    newer = Session("w", "s2", 100, dict.fromkeys(session.offerings, ANY_CONTRACT), nothing)
    newer.grant({("t", "", ""): 4, ("u", "", ""): 2}, anew=True)
    newer.resume(session.let_go_all().values(), session)
    assert (newer.left("t"), newer.left("u")) == (3, 1)
    assert (session.left("t"), session.left("u")) == (4, 2)


async def test_a_worker_that_holds_thousands_of_limited_skills_is_not_asked_for_each_of_them() -> None:
    class Leases(dict[str, Offer]):
        gone_through = 0

        def values(self) -> Any:
            Leases.gone_through += 1
            return super().values()

    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    skills = [f"t{number}" for number in range(100)]
    session = Session("w", "s", 2_000, {Offering(skill): ANY_CONTRACT for skill in skills}, nothing)
    session.grant({(skill, "", ""): 100 for skill in skills}, anew=True)
    dispatcher.add(session)
    offers(session, **{f"lease-{number}": skills[number % 100] for number in range(1_000)})
    session.leases = Leases(session.leases)
    for skill in skills:
        dispatcher._waiting.add(dispatcher.learn(Need(skill)))
    assert {seat.n for seat in dispatcher.seats_at(session, 500)} == {90}
    assert dispatcher.seats_for({Need("t1"): 1}) == []
    assert Leases.gone_through == 0


async def test_what_waits_for_a_limited_skill_has_a_seat_of_its_own() -> None:
    store: Any = Asked()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w", "s", 10, dict.fromkeys((Offering("limited"), Offering("free")), ANY_CONTRACT), nothing)
    session.grant({("limited", "", ""): 2, ("free", "", ""): None}, anew=True)
    dispatcher.add(session)
    limited, free = Need("limited"), Need("free")
    for need in (limited, free):
        dispatcher.learn(need)
    await dispatcher.wait_without([], [limited, free])
    seats = {seat.keys: seat.n for seat in dispatcher.seats_at(session, 5)}
    assert seats == {(limited.key,): 2, (free.key,): 5}


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
