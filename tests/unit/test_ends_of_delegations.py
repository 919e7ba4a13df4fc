"""Jobs of the parent's that end while they are stopped, moved or noted: no more is done to them, nothing is owed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from holon.errors import HolonError, StoreUnavailable
from holon.ports import JobRecord
from holon.rxon.v1 import worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import books
from holon.uplink.asked import Terms
from holon.uplink.books import KIND, Books
from holon.uplink.delegated import Stage
from holon.uplink.delegation import Delegation
from holon.uplink.moving import Moving
from holon.uplink.running import Running
from holon.uplink.stopping import Why
from holon.worker.leases import Lease, Leases


class Beside:
    """What is done beside, by name."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def create_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks[name] = asyncio.create_task(work, name=name)

    async def ends(self, name: str) -> None:
        async with asyncio.timeout(10):
            await self.tasks[name]


class Holon:
    """A holon whose jobs go on until they are said to be over; it is its own place, jobs, reports and summaries."""

    in_words, cleanup, holon_id = True, 0.0, "h"

    def __init__(self, store: MemoryStorage) -> None:
        self.leases = Leases()
        self.entry = Delegation("above", "t1", "j1", 1, 1, "l1")
        self.noted, self.beside = Books(store), Beside()
        self.store = store
        self.jobs = self.following = self
        self.cancels: list[bool] = []
        self.told: list[Lease] = []
        self.seen: dict[str, Callable[[JobRecord | None], None]] = {}
        me: Any = self
        self.running = Running(me, self.noted, me, me, me.beside)

    async def cancel(self, _: str, __: str, *, by: str, insist: bool) -> None:
        self.cancels.append(insist)

    def finish(self, lease: Lease, _: worker_pb2.TaskResult) -> None:
        self.told.append(lease)

    def reject(self, *_: Any, **__: Any) -> bool:
        return False

    def follow(self, job_id: str, seen: Callable[[JobRecord | None], None], *_: object) -> None:
        self.seen[job_id] = seen

    def leave(self, job_id: str) -> None:
        del self.seen[job_id]

    def changed(self, _: Delegation) -> None: ...

    def forget(self, _: Delegation) -> None: ...


@pytest.fixture
async def holon(store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> Holon:
    monkeypatch.setattr(books, "GATHER_S", 0.001)
    return Holon(store)


class Gate:
    """A store that writes no single document until it may."""

    def __init__(self, store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        put = store.put_document

        async def slowly(*arguments: Any, **more: Any) -> Any:
            self.reached.set()
            await self.opened.wait()
            return await put(*arguments, **more)

        monkeypatch.setattr(store, "put_document", slowly)


async def test_a_job_that_nobody_knows_of_and_that_is_not_there_is_not_being_stopped_any_more(holon: Holon) -> None:
    running = holon.running.goes_on(holon.entry)
    holon.running.stop(running, Why.UNSURE)
    async with asyncio.timeout(10):
        while not holon.cancels:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0)
    holon.seen["j1"](None)
    await holon.beside.ends("delegated-t1")
    # Else the next stop has no time to clean up, and is not noted.
    assert (holon.entry.withdrawn, holon.entry.stopping, holon.entry.cleans_until) == (False, "", 0)


async def test_a_job_that_is_over_is_not_said_to_clean_up_while_its_end_waits_to_be_noted(
    holon: Holon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Holon, "cleanup", 0.01)
    await holon.noted.write(holon.entry)
    running = holon.running.goes_on(holon.entry)
    holon.running.stop(running, Why.LEASE_LOST)
    async with asyncio.timeout(10):
        while not holon.cancels:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0)
    gate = Gate(holon.store, monkeypatch)
    holon.seen["j1"](None)
    await gate.reached.wait()
    await holon.beside.ends("cancel-t1")
    assert holon.cancels == [False]
    gate.opened.set()
    await holon.beside.ends("delegated-t1")


async def test_that_a_job_is_stopped_is_not_noted_once_its_end_is_settled(
    holon: Holon, monkeypatch: pytest.MonkeyPatch
) -> None:
    holon.leases.take(holon.entry.lease)
    gate = Gate(holon.store, monkeypatch)
    writing = asyncio.create_task(holon.noted.write(holon.entry))
    await gate.reached.wait()
    running = holon.running.goes_on(holon.entry)
    holon.running.stop(running, Why.DEADLINE)
    # It waits for its turn.
    await asyncio.sleep(0)
    holon.seen["j1"](None)
    await holon.beside.ends("delegated-t1")
    assert holon.told == [holon.entry.lease]
    holon.running.telling.settled(holon.entry.lease, committed=True)
    gate.opened.set()
    await writing
    await holon.beside.ends("cancel-t1")
    deleting = asyncio.create_task(holon.noted.run())
    async with asyncio.timeout(10):
        while await holon.store.documents(KIND):  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    deleting.cancel()


async def test_what_is_stopped_or_over_is_not_said_to_be_given_back(
    holon: Holon, caplog: pytest.LogCaptureFixture
) -> None:
    running = holon.running.goes_on(holon.entry)
    assert running.stops(Why.CANCELLED)
    with caplog.at_level("INFO"):
        holon.running.give_back(running, "nobody can do it")
    assert (running.reason, caplog.messages) == ("", [])


async def test_a_newer_lease_that_could_not_be_noted_of_a_job_whose_end_is_being_told_leaves_nothing_owed(
    holon: Holon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await holon.noted.write(holon.entry)
    running = holon.running.goes_on(holon.entry)
    running.stage = Stage.ENDS
    me: Any = holon
    moving = Moving(holon.noted, me, holon.running, lambda *_: None)

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    newer = worker_pb2.TaskOffer(task_id="t1", lease_id="l2", generation=1, attempt=2)
    with monkeypatch.context() as patched:
        patched.setattr(holon.store, "put_document", away)
        with pytest.raises(HolonError):
            await moving.moved(holon.entry, Lease("t1", "l2"), newer, Terms(10**6, None, None, None))
    await holon.beside.ends("not-moved-t1")
    assert [one.expires_at is None for one in await holon.store.documents(KIND)] == [False]
