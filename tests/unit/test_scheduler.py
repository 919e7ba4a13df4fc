"""The scheduler: what is due is made once, whatever becomes of nodes, clocks, stores and files."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import pytest

from holon import Blueprint
from holon.clock import ManualClock
from holon.context import ActionFactory
from holon.domain.client import ADMIN, SCHEDULER, Client
from holon.domain.job import Job
from holon.engine.core import Engine, EngineSettings
from holon.engine.requests import Listing
from holon.engine.scheduler import LOOK_EVERY_S, Scheduler
from holon.engine.schedules_file import Schedule
from holon.engine.timetable import Every, OnDays, Timetable
from holon.errors import InvalidArgument, NotFound, ResourceExhausted, StoreUnavailable
from holon.ports import StoreSettings
from holon.storage import MemoryStorage
from holon.wire.trees import read_summary

BOSS = Client("boss", roles=frozenset({ADMIN}))
KEPT = 86_400_000


class Data(TypedDict):
    """What the blueprint takes."""

    n: int


# Clients cannot start it.
backup = Blueprint("backup")


@backup.handler(is_start=True)
async def start(initial_data: Data, actions: ActionFactory) -> None:
    """Its jobs wait for a worker, and none comes."""
    actions.dispatch_task("copy", initial_data, {"success": "over"})


@backup.handler("over", is_end=True)
async def over() -> None:
    """The end."""


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def schedule(name: str = "s", timetable: Timetable | None = None, **given: Any) -> Schedule:
    return Schedule(name, "backup", timetable or Every(60_000), {"n": 1}, **given)


class Site:
    """A store, and engines over it as nodes have them; their time is set."""

    def __init__(self, store: MemoryStorage) -> None:
        self.store = store
        self.clock = ManualClock(moment("2026-11-28T12:00:30"))
        self.engines: list[Engine] = []

    def node(self, *schedules: Schedule, now: Callable[[], int] | None = None) -> Scheduler:
        """A node that starts now with these."""
        wall = now or self.clock.now_ms
        engine = Engine(
            self.store, StoreSettings("n1"), EngineSettings(job_retention=KEPT), read_told=read_summary, wall=wall
        )
        engine.blueprints.register(backup)
        self.engines.append(engine)
        engine.scheduler.begin(schedules)
        return engine.scheduler

    async def jobs(self) -> list[Job]:
        """Those of schedules, oldest first."""
        records, _ = await self.engines[0].jobs.list(SCHEDULER, Listing(page_size=1000))
        return [record.job for record in reversed(records)]

    async def due(self) -> list[str]:
        """For what those were due."""
        at = [json.loads(job.client_params)["due_at"] for job in await self.jobs()]
        return [f"{datetime.fromtimestamp(one, UTC):%d %H:%M:%S}" for one in sorted(at)]

    async def at(self, text: str, *nodes: Scheduler) -> None:
        """It is this time on 28 November, or another day of it, and the nodes look, all at once."""
        day = text if len(text) > 8 else f"28 {text}"
        self.clock.advance(moment(f"2026-11-{day.replace(' ', 'T')}") - self.clock.now_ms())
        await asyncio.gather(*(node.look() for node in nodes))


@pytest.fixture
async def site(store: MemoryStorage) -> Site:
    return Site(store)


def results(*nodes: Scheduler) -> dict[str, float]:
    """What became of slots, in all."""
    told: dict[str, float] = {}
    for node in nodes:
        for (_, result), count in node.metrics.slots.values.items():
            told[result] = told.get(result, 0) + count
    return {result: count for result, count in told.items() if count}


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


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
    assert any("is what was due at 2026-11-28T12:04:00+00:00" in line for line in said(caplog, logging.INFO))


async def test_what_was_due_too_long_ago_is_not_caught_up(site: Site) -> None:
    daily = schedule(timetable=OnDays(time(11, 55), UTC), catch_up=330_000)
    node, other = site.node(replace(daily, catch_up=329_999)), site.node(replace(daily, name="t"))
    await site.at("12:00:31", node, other)
    assert [json.loads(job.client_params)["source"] for job in await site.jobs()] == ["scheduler:t"]
    await site.at("29 11:55:00", node)
    assert await site.due() == ["28 11:55:00", "29 11:55:00"]


# Clocks --------------------------------------------------------------------------------------------------------------


async def test_a_machine_that_slept_makes_the_latest_slot_and_tells_that_others_were_missed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    often, daily = schedule(catch_up=0), schedule("d", OnDays(time(12, 5), UTC), catch_up=0)
    node = site.node(often, daily)
    await site.at("15:00:10", node)
    assert await site.due() == ["28 12:05:00", "28 15:00:00"]
    assert results(node) == {"made": 2, "missed": 1}
    [line] = said(caplog, logging.WARNING)
    assert "s: what was due at 2026-11-28T12:01:00+00:00 was not made" in line


async def test_what_another_node_made_meanwhile_was_not_missed(site: Site) -> None:
    slept, other = site.node(schedule(catch_up=0)), site.node(schedule(catch_up=0))
    await site.at("12:01:00", other)
    await site.at("12:02:00", other)
    await slept.look()
    assert results(slept, other) == {"made": 2, "known": 1}


async def test_a_clock_that_is_set_back_doubles_nothing_and_stops_nothing(site: Site) -> None:
    now = [site.clock.now_ms()]
    node = site.node(schedule(catch_up=0), now=lambda: now[0])

    async def at(text: str) -> None:
        now[0] = moment(f"2026-11-28T{text}")
        await node.look()

    for text in ("12:01:00", "12:02:00", "12:00:10", "12:01:00", "12:02:00", "12:03:00"):
        await at(text)
    assert await site.due() == ["28 12:01:00", "28 12:02:00", "28 12:03:00"]
    # Far ahead by mistake, and set right.
    now[0] = moment("2038-01-01T00:00:00")
    await node.look()
    await at("12:03:30")
    assert node.next == {"s": moment("2026-11-28T12:04:00")}


async def test_a_day_with_a_time_twice_has_one_job(site: Site) -> None:
    site.clock = ManualClock(moment("2026-10-24T23:00:00"))
    node = site.node(schedule(timetable=OnDays(time(2, 30), ZoneInfo("Europe/Berlin"))))
    for _ in range(8 * 24):
        site.clock.advance(1_800_000)
        await node.look()
    assert await site.due() == [
        "25 00:30:00",
        *(f"{day} 01:30:00" for day in range(26, 29)),
    ]


# Stores --------------------------------------------------------------------------------------------------------------


def failing(node: Scheduler, errors: Iterable[Exception], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Have the next creations fail; what was asked for."""
    jobs, waiting, asked = node._jobs, list(errors), list[object]()
    create = jobs.create_for_schedule

    async def fail(client: Client, wanted: Any) -> Any:
        asked.append(wanted.request_id)
        if not waiting:
            return await create(client, wanted)
        error = waiting.pop(0)
        if isinstance(error, StoreUnavailable | ResourceExhausted | NotFound):
            return error
        raise error

    monkeypatch.setattr(jobs, "create_for_schedule", fail)
    return asked


async def test_what_is_due_while_the_store_is_away_is_tried_until_it_is_made(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC), catch_up=0))
    errors = [
        StoreUnavailable("the store is away"),
        ResourceExhausted("the store is full", retry_after=3600.0),
        RuntimeError("a bug"),
    ]
    asked = failing(node, errors, monkeypatch)
    await site.at("12:01:00", node)
    assert await node.look() == 1
    # Not too soon after the last time.
    assert len(asked) == 1
    await site.at("12:01:01", node)
    assert await node.look() == 30
    await site.at("12:01:30", node)
    assert len(asked) == 2
    await site.at("12:01:31", node)
    assert len(asked) == 3
    await site.at("17:00:00", node)
    assert await site.due() == ["28 12:01:00"]
    assert len(set(asked)) == 1
    assert results(node) == {"failed": 3, "made": 1}
    assert [line.rpartition(": ")[2] for line in said(caplog, logging.WARNING)] == [
        "the store is away",
        "the store is full",
    ]
    assert len(said(caplog, logging.ERROR)) == 1


async def test_a_clock_that_is_set_back_puts_no_other_try_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [moment("2026-11-28T12:00:00")]
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC), catch_up=0), now=lambda: now[0])
    failing(node, [StoreUnavailable("away")], monkeypatch)
    now[0] = moment("2026-11-28T15:00:00")
    assert await node.look() == 1
    now[0] = moment("2026-11-28T13:00:00")
    await node.look()
    assert await site.due() == ["28 12:01:00"]


async def test_what_could_not_be_made_before_the_next_slot_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = site.node(schedule(catch_up=0))
    failing(node, [StoreUnavailable("away")] * 2, monkeypatch)
    for text in ("12:01:00", "12:01:30", "12:02:00", "12:02:30"):
        await site.at(text, node)
    assert await site.due() == ["28 12:02:00"]
    assert results(node) == {"failed": 2, "missed": 1, "made": 1}


async def test_what_nobody_could_tell_of_any_more_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC, dates=frozenset({28})), catch_up=0))
    asked = failing(node, [StoreUnavailable("away")], monkeypatch)
    await site.at("12:01:00", node)
    await site.at("29 12:01:01", node)
    assert len(asked) == 1
    assert results(node) == {"failed": 1, "missed": 1}


async def test_what_is_refused_for_good_is_not_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.node(schedule(catch_up=0))
    asked = failing(node, [NotFound("no such blueprint")], monkeypatch)
    await site.at("12:01:00", node)
    await site.at("12:01:31", node)
    assert len(asked) == 1
    assert results(node) == {"refused": 1}
    assert "no such blueprint" in said(caplog, logging.ERROR)[0]


async def test_what_another_node_made_with_other_input_is_made(site: Site) -> None:
    old, new = site.node(schedule(catch_up=0)), site.node(replace(schedule(catch_up=0), input_data={"n": 2}))
    await site.at("12:01:00", old)
    await new.look()
    assert [job.initial_data for job in await site.jobs()] == [{"n": 1}]
    assert results(new) == {"known": 1}


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
