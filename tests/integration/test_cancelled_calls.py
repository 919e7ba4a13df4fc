"""Callers that are cancelled while the store works for them: what it hands over is seen to all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.domain.fleet import Catalog, Skill
from holon.engine.core import Engine, EngineSettings
from holon.engine.members import Joining
from holon.engine.requests import Creating, Listing
from holon.engine.session import Session
from holon.ports import Offer, Stop, StoreSettings
from holon.storage.sqlite import SqliteStorage
from holon.wire.trees import read_summary

GUARD = 60.0
OWNER = "owner"
# Nothing of these tests is repaired by an expiry: it would come too late.
SETTINGS = StoreSettings("node", lease=600_000, offer=600_000)

relay = Blueprint("relay", api_endpoint="/relay", api_version="v1")


@relay.handler(is_start=True)
async def start(actions: ActionFactory) -> None:
    await asyncio.sleep(0)
    actions.go_to("end")


@relay.handler(is_end=True)
async def end() -> None: ...


asking = Blueprint("asking", api_endpoint="/asking", api_version="v1")


@asking.handler(is_start=True)
async def ask(actions: ActionFactory) -> None:
    actions.dispatch_task("t", {}, transitions={"success": "end"})


asking.handler("end", is_end=True)(end)


class Hand:
    """A worker's connection that takes down what it is offered."""

    def __init__(self) -> None:
        self.offered: list[str] = []
        self._came = asyncio.Event()

    async def has(self, number: int) -> None:
        """Wait until it was offered so many."""
        async with asyncio.timeout(GUARD):
            while len(self.offered) < number:
                self._came.clear()
                await self._came.wait()

    def offer(self, offers: Sequence[Offer]) -> None:
        self.offered += [offer.job_id for offer in offers]
        self._came.set()

    def stop(self, stops: Sequence[Stop]) -> None: ...

    def go_away(self, reason: str, message: str, time_left: int) -> None: ...


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with SqliteStorage(tmp_path / "store.db", SETTINGS) as store:
        engine = Engine(store, SETTINGS, EngineSettings(), read_told=read_summary)
        engine.blueprints.register_all([relay, asking])
        running = asyncio.create_task(engine.run())
        yield engine
        running.cancel()
        await asyncio.wait([running])


async def create_and_cancel(engine: Engine, blueprint: str) -> None:
    creating = asyncio.create_task(engine.jobs.create(Client(OWNER), Creating(blueprint, {})))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    creating.cancel()
    # It has its reply, and may wait for nothing more.
    await asyncio.wait([creating])


async def test_jobs_whose_creators_went_away_run_at_once(engine: Engine) -> None:
    for _ in range(20):
        await create_and_cancel(engine, "relay")
    async with asyncio.timeout(GUARD):
        await engine.executor.idle()
    assert set(await statuses(engine)) == {"finished"}


async def test_offers_that_came_with_a_cancelled_call_reach_their_worker(engine: Engine) -> None:
    hand = Hand()
    session = await joined(engine, hand)
    await engine.jobs.create(Client(OWNER), Creating("asking", {}))
    await hand.has(1)
    # From here on its first step is written with the job, and its offer comes back from the same call.
    for _ in range(20):
        await create_and_cancel(engine, "asking")
    await hand.has(21)
    assert len(session.leases) == 21
    assert session.promised == 0


@pytest.mark.parametrize("turns", range(8))
async def test_a_worker_that_went_away_while_its_contract_was_learned_leaves_no_task_behind(
    engine: Engine, turns: int
) -> None:
    await engine.jobs.create(Client(OWNER), Creating("asking", {}))
    await engine.executor.idle()
    skill = Skill("t", input_schema={"type": "object"})
    joining = asyncio.create_task(engine.workers.join(Joining("w1", 1, catalog=Catalog((skill,))), Hand()))
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    joining.cancel()
    await asyncio.wait([joining])
    hand = Hand()
    await engine.workers.join(Joining("w1", 1, catalog=Catalog((skill,))), hand)
    await hand.has(1)


async def test_a_call_made_while_its_caller_ends_is_answered(tmp_path: Path) -> None:
    async with SqliteStorage(tmp_path / "store.db", SETTINGS) as store:
        closed = asyncio.Event()

        async def calling() -> None:
            try:
                await store.fire(1)
                await asyncio.Event().wait()
            finally:
                await store.close_session("w1", "s1")
                closed.set()

        caller = asyncio.create_task(calling())
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert closed.is_set()


async def joined(engine: Engine, hand: Hand) -> Session:
    return (await engine.workers.join(Joining("w1", 100, Catalog((Skill("t"),))), hand)).session


async def statuses(engine: Engine) -> list[str]:
    records, _ = await engine.jobs.list(OWNER, Listing())
    return [record.job.status.value for record in records]
