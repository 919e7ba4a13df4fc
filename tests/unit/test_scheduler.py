"""The scheduler: what is due is made once, whatever becomes of nodes and of their files."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from datetime import UTC, time
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.client import SCHEDULER, Client
from holon.engine.core import Engine, EngineSettings
from holon.engine.scheduler import LOOK_EVERY_S
from holon.engine.timetable import Every, OnDays
from holon.errors import InvalidArgument, NotFound, StoreUnavailable
from holon.ports import StoreSettings
from holon.storage import MemoryStorage
from holon.wire.trees import read_summary
from tests.unit.schedules import BOSS, Site, backup, failing, moment, results, said, schedule


@pytest.fixture
async def site(store: MemoryStorage) -> Site:
    return Site(store)


# When ----------------------------------------------------------------------------------------------------------------


async def test_a_job_is_made_at_each_slot_and_the_loop_sleeps_until_the_next(site: Site) -> None:
    node = site.node(schedule(catch_up=0, dispatch_timeout=1.5))
    assert await node.look() == 30
    await site.at("12:00:59", node)
    assert await site.due() == []
    await site.at("12:01:00", node)
    [job] = await site.jobs()
    assert (job.blueprint, job.owner, job.plan, job.initial_data) == ("backup", SCHEDULER, "system", {"n": 1})
    assert json.loads(job.client_params) == {"source": "scheduler:s", "due_at": moment("2026-11-28T12:01:00") // 1000}
    assert (job.dispatch_timeout, job.result_timeout) == (1500, None)
    [(_, created), *_] = await site.store.history(job.id, 0, 10)
    assert created.details == {"blueprint": "backup", "source": "scheduler:s"}
    # For a clock that is set meanwhile it looks a little sooner.
    assert await node.look() == LOOK_EVERY_S
    await site.at("12:01:59", node)
    assert await node.look() == 1
    await site.at("12:02:00", node)
    assert await site.due() == ["28 12:01:00", "28 12:02:00"]
    assert results(node) == {"made": 2}


async def test_nodes_that_share_a_store_make_one_job_of_each_slot(site: Site) -> None:
    nodes = [site.node(schedule(timetable=Every(5_000))) for _ in range(3)]
    for second in range(30, 46):
        await site.at(f"12:00:{second}", *nodes)
    assert await site.due() == ["28 12:00:30", "28 12:00:35", "28 12:00:40", "28 12:00:45"]
    assert results(*nodes) == {"made": 4, "known": 8}


async def test_schedules_with_the_same_times_are_each_by_themselves(site: Site) -> None:
    node = site.node(schedule("a", catch_up=0), schedule("b", catch_up=0), schedule("c", Every(3_600_000)))
    await site.at("12:01:00", node)
    assert await site.due() == ["28 12:01:00", "28 12:01:00"]
    assert node.next == {name: moment("2026-11-28T12:02:00") for name in "ab"} | {"c": moment("2026-11-28T13:00:00")}


# A restart -----------------------------------------------------------------------------------------------------------


async def test_a_restart_makes_nothing_again(site: Site) -> None:
    await site.at("12:01:01", site.node(schedule(catch_up=300_000)))
    again = site.node(schedule(catch_up=300_000))
    await site.at("12:01:02", again)
    assert await site.due() == ["28 12:01:00"]
    assert results(again) == {"known": 1}


async def test_the_latest_of_what_was_due_while_no_node_ran_is_caught_up(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await site.at("12:01:00", site.node(schedule(catch_up=300_000)))
    await site.at("12:04:59")
    await site.at("12:04:59", site.node(schedule(catch_up=300_000)))
    assert await site.due() == ["28 12:01:00", "28 12:04:00"]
    assert any("was created for 2026-11-28T12:04:00+00:00" in line for line in said(caplog, logging.INFO))


async def test_what_was_due_too_long_ago_is_not_caught_up(site: Site) -> None:
    daily = schedule(timetable=OnDays(time(11, 55), UTC), catch_up=330_000)
    node, other = site.node(replace(daily, catch_up=329_999)), site.node(replace(daily, name="t"))
    await site.at("12:00:31", node, other)
    assert [json.loads(job.client_params)["source"] for job in await site.jobs()] == ["scheduler:t"]
    await site.at("29 11:55:00", node)
    assert await site.due() == ["28 11:55:00", "29 11:55:00"]


# Files, ends ---------------------------------------------------------------------------------------------------------


async def test_a_reload_changes_what_is_due_from_now_on(site: Site) -> None:
    kept, gone, moved = schedule("kept"), schedule("gone"), schedule("moved", OnDays(time(14, 0), UTC))
    node = site.node(kept, gone, moved)
    await site.at("12:01:00", node)
    changes = node.replace(
        [
            kept,
            # It was at noon, and is not caught up: it was not to be then.
            replace(moved, timetable=OnDays(time(12, 1), UTC), catch_up=300_000),
            schedule("new", catch_up=300_000),
        ]
    )
    assert list(changes) == [("schedule_changed", "moved"), ("schedule_added", "new"), ("schedule_removed", "gone")]
    made = len(await site.jobs())
    await site.at("12:01:30", node)
    assert len(await site.jobs()) == made
    await site.at("12:02:00", node)
    assert sorted(json.loads(job.client_params)["source"] for job in (await site.jobs())[made:]) == [
        "scheduler:kept",
        "scheduler:new",
    ]


async def test_what_is_due_and_not_made_yet_outlives_a_reload(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    node = site.node(schedule(catch_up=0))
    failing(node, [StoreUnavailable("away")], monkeypatch)
    await site.at("12:01:00", node)
    node.replace([replace(schedule(catch_up=0), input_data={"n": 2})])
    await site.at("12:01:10", node)
    assert [job.initial_data for job in await site.jobs()] == [{"n": 2}]


async def test_a_reload_that_leaves_none_while_one_is_made_ends_well(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = site.node(schedule(catch_up=0))
    jobs, create = node._jobs, node._jobs.create_for_schedule

    async def reloaded(client: Client, wanted: Any) -> Any:
        node.replace([])
        return await create(client, wanted)

    monkeypatch.setattr(jobs, "create_for_schedule", reloaded)
    await site.at("12:01:00", node)
    assert await site.due() == ["28 12:01:00"]
    assert await node.look() is None


async def test_a_node_that_drains_makes_nothing_and_its_next_run_does(site: Site) -> None:
    node = site.node(schedule(catch_up=300_000))
    await site.at("12:00:31", node)
    assert await site.due() == ["28 12:00:00"]
    node.close()
    await site.at("12:01:00", node)
    assert await site.due() == ["28 12:00:00"]
    await site.at("12:01:10", site.node(schedule(catch_up=300_000)))
    assert await site.due() == ["28 12:00:00", "28 12:01:00"]


async def test_the_loop_waits_for_slots_and_takes_other_schedules_at_once(store: MemoryStorage) -> None:
    engine = Engine(store, StoreSettings("n1"), EngineSettings(), read_told=read_summary, wall=ManualClock().now_ms)
    engine.blueprints.register(backup)
    running = asyncio.create_task(engine.scheduler.run())
    await asyncio.sleep(0)
    # Now is a slot of these.
    engine.scheduler.replace([schedule(timetable=Every(1_000))])
    assert engine.scheduler.next == {"s": ManualClock().now_ms() + 1_000}
    engine.scheduler.begin([schedule(timetable=Every(1_000), catch_up=0)])
    async with asyncio.timeout(10):
        while not results(engine.scheduler):  # noqa: ASYNC110  nothing tells that it is
            await asyncio.sleep(0)
    running.cancel()
    assert results(engine.scheduler) == {"made": 1}


# Whose they are ------------------------------------------------------------------------------------------------------


async def test_its_jobs_are_for_administrators_alone(site: Site) -> None:
    node = site.node(schedule(catch_up=300_000))
    await node.look()
    [job] = await site.jobs()
    jobs = site.engines[0].jobs
    assert (await jobs.get(BOSS, job.id)).job.id == job.id
    assert (await jobs.history(BOSS, job.id))[0]
    for stranger in (Client("shop"), Client("default")):
        with pytest.raises(NotFound):
            await jobs.get(stranger, job.id)
        with pytest.raises(NotFound):
            await jobs.cancel(stranger, job.id)
    # Of another client an administrator sees none.
    assert not BOSS.sees("shop")
    await jobs.cancel(BOSS, job.id)


async def test_a_schedule_that_could_not_make_jobs_is_found_before_it_is_due(site: Site) -> None:
    node = site.node()
    node.check(schedule())
    with pytest.raises(NotFound, match="nowhere"):
        node.check(replace(schedule(), blueprint="nowhere"))
    with pytest.raises(InvalidArgument) as caught:
        node.check(replace(schedule(), input_data={"n": "one"}))
    assert [one.field for one in caught.value.details] == ["initial_data.n"]
