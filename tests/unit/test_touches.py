"""Touches: what is carried to the store of what sessions said, and what is not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.attempts import Unfinished
from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.task import RetryPolicy
from holon.engine.dispatcher import Dispatcher
from holon.engine.session import Session
from holon.engine.touches import Touches
from holon.errors import StoreUnavailable
from holon.ports import Accept, Handback, Leased, LeaseRef, Offer, Progress, Seat, Touch, Touched
from holon.telemetry.events import Telemetry

GUARD = 60.0
LEASE = LeaseRef("w1", "s1", "0-a-0-0", "l1")
OFFER = Offer("w1", "s1", "0-a-0-0", "l1", "0-a", "t", "", "", b"", 0, 1, 1, None, None, RetryPolicy())


class Told:
    """A store that takes what it is told, and knows nothing of leases that were accepted if `lost` says so.

    `meanwhile` is called while it is told.
    """

    def __init__(self, *, lost: bool = False, meanwhile: Callable[[], object] = int) -> None:
        self.touches: list[Touch] = []
        self._lost = lost
        self._meanwhile = meanwhile

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        self.touches.append(touch)
        self._meanwhile()
        return Touched(tuple(one.lease for one in touch.accepts) if self._lost else (), (), Leased())


async def carried(*, ended: bool, listed: bool) -> Touch:
    """What a flush carries of a worker that accepted a task and sent a heartbeat, and whose stream may have ended."""
    store: Any = Told()
    nothing: Any = None
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w1", "s1", 1, {Offering("t"): ANY_CONTRACT}, nothing)
    session.leases[LEASE.lease_id] = OFFER
    session.accepted.add(LEASE.lease_id)
    dispatcher.add(session)
    touches = Touches(store, dispatcher, ManualClock().now_ms)
    touches.accepted(LEASE)
    for _ in range(2):
        if listed:
            touches.extend([LEASE])
        else:
            touches.alive("s1")
    if ended:
        dispatcher.remove(session)
    await touches.flush()
    [touch] = store.touches
    assert isinstance(touch, Touch)
    return touch


async def test_what_a_task_said_last_is_carried_before_its_result() -> None:
    store: Any = Told()
    touches = Touches(store, Dispatcher(store, Telemetry()), ManualClock().now_ms, every=GUARD)
    carrying = asyncio.create_task(touches.run())
    try:
        touches.progress(Progress(LEASE, 100.0, "all done"))
        await touches.before(["another"])
        assert store.touches == []
        await touches.before([LEASE.lease_id])
        assert [one.message for touch in store.touches for one in touch.progress] == ["all done"]
        await touches.before([LEASE.lease_id])
        assert len(store.touches) == 1
    finally:
        carrying.cancel()


async def test_a_store_that_is_slow_holds_up_no_result() -> None:
    class Slow(Told):
        async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
            await asyncio.Event().wait()
            return await super().touch(touch, seats)

    store: Any = Slow()
    touches = Touches(store, Dispatcher(store, Telemetry()), ManualClock().now_ms, every=0.01)
    carrying = asyncio.create_task(touches.run())
    try:
        touches.progress(Progress(LEASE, 100.0, "all done"))
        async with asyncio.timeout(GUARD):
            await touches.before([LEASE.lease_id])
        assert store.touches == []
    finally:
        carrying.cancel()


@pytest.mark.parametrize("listed", [True, False])
async def test_what_a_worker_holds_is_extended(listed: bool) -> None:
    assert (await carried(ended=False, listed=listed)).extends == (LEASE,)


@pytest.mark.parametrize("listed", [True, False])
async def test_i6_what_a_worker_held_that_is_gone_is_not_extended_and_its_word_of_a_task_is_kept(
    listed: bool,
) -> None:
    touch = await carried(ended=True, listed=listed)
    assert touch.extends == ()
    assert touch.accepts == (Accept(LEASE),)


async def test_nothing_is_carried_of_a_task_whose_result_overtook_its_acceptance() -> None:
    nothing: Any = None
    session = Session("w1", "s1", 1, {Offering("t"): ANY_CONTRACT}, nothing)
    store: Any = Told(lost=True, meanwhile=lambda: session.leases.clear())
    dispatcher = Dispatcher(store, Telemetry())
    session.leases[LEASE.lease_id] = nothing
    dispatcher.add(session)
    touches = Touches(store, dispatcher, ManualClock().now_ms)
    touches.accepted(LEASE)
    await touches.flush()
    await touches.flush()
    assert [(touch.accepts, touch.handbacks) for touch in store.touches] == [((Accept(LEASE),), ()), ((), ())]


async def test_what_no_session_here_has_is_given_back_and_nobody_says_what_it_cost() -> None:
    store: Any = Told(lost=True)
    touches = Touches(store, Dispatcher(store, Telemetry()), ManualClock().now_ms)
    touches.accepted(LEASE)
    await touches.flush()
    await touches.flush()
    assert [touch.handbacks for touch in store.touches] == [
        (),
        (Handback(LEASE, 0, unheard=True, reason=Unfinished.WORKER_LOST),),
    ]


async def test_the_store_is_told_how_long_ago_a_task_was_accepted_also_when_it_was_away() -> None:
    nothing: Any = None
    clock = ManualClock()
    away = [StoreUnavailable("away")]

    def meanwhile() -> None:
        if away:
            raise away.pop()

    store: Any = Told(meanwhile=meanwhile)
    dispatcher = Dispatcher(store, Telemetry())
    session = Session("w1", "s1", 1, {Offering("t"): ANY_CONTRACT}, nothing)
    session.leases[LEASE.lease_id] = nothing
    dispatcher.add(session)
    touches = Touches(store, dispatcher, clock.now_ms)
    touches.accepted(LEASE)
    for wait in (700, 200):
        clock.advance(wait)
        await touches.flush()
    assert [touch.accepts for touch in store.touches] == [(Accept(LEASE, 700),), (Accept(LEASE, 900),)]


async def test_the_end_of_a_session_that_takes_its_time_holds_up_no_accepts() -> None:
    class Away(Told):
        async def close_session(self, worker_id: str, session_id: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                # A call that is cancelled half way takes its time to end.
                for _ in range(10):
                    await asyncio.sleep(0)

    store: Any = Away()
    touches = Touches(store, Dispatcher(store, Telemetry()), ManualClock().now_ms, every=0.01)
    carrying = asyncio.create_task(touches.run())
    touches.ended("w1", "s1")
    async with asyncio.timeout(3.0):
        for number in range(3):
            touches.progress(Progress(LEASE, float(number), ""))
            await touches.before([LEASE.lease_id])
            while len([one for one in store.touches if one.progress]) <= number:  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0)
    assert len([touch for touch in store.touches if touch.progress]) == 3
    carrying.cancel()
    async with asyncio.timeout(10.0):
        await asyncio.wait([carrying])
    assert "session-ends" not in [task.get_name() for task in asyncio.all_tasks()]
