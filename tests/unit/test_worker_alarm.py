"""The worker SDK's alarm: what happens to calls by time alone, each at its own time, and not once that is dropped."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from holon.worker.alarm import Alarm
from holon.worker.call import Call


def a_call(name: str) -> Call:
    return cast(Call, SimpleNamespace(name=name, due=None))


class Rung:
    """Hears the names of calls as they ring."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.some = asyncio.Event()

    def __call__(self, call: Any) -> None:
        self.names.append(call.name)
        self.some.set()

    async def next(self) -> None:
        self.some.clear()
        await asyncio.wait_for(self.some.wait(), 30)


@pytest.fixture
async def rung() -> Rung:
    return Rung()


async def test_each_call_has_its_own_time_whichever_was_set_first(rung: Rung) -> None:
    late, early, never = a_call("late"), a_call("early"), a_call("never")
    alarm = Alarm(asyncio.get_running_loop(), lambda: (late, early, never))
    alarm.set(late, 0.02, rung)
    alarm.set(never, 3600, rung)
    alarm.set(early, 0, rung)
    while len(rung.names) < 2:
        await rung.next()
    assert rung.names == ["early", "late"]
    alarm.close()


async def test_what_was_dropped_or_set_anew_does_not_ring_at_its_first_time(rung: Rung) -> None:
    dropped, later, last = a_call("dropped"), a_call("later"), a_call("last")
    alarm = Alarm(asyncio.get_running_loop(), lambda: (dropped, later, last))
    for call in (dropped, later):
        alarm.set(call, 0, rung)
    alarm.drop(dropped)
    alarm.set(later, 3600, rung)
    alarm.set(last, 0.01, rung)
    await rung.next()
    assert rung.names == ["last"]
    alarm.close()


async def test_what_rings_may_set_the_next_time_of_its_call(rung: Rung) -> None:
    call = a_call("one")
    alarm = Alarm(asyncio.get_running_loop(), lambda: (call,))
    alarm.set(call, 0, lambda call: alarm.set(call, 0, rung))
    await rung.next()
    assert rung.names == ["one"]
    assert call.due is None
    alarm.close()
