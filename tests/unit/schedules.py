"""What the tests of the scheduler share: a store, nodes over it whose time is set, and what became of slots."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypedDict

import pytest

from holon import Blueprint
from holon.clock import ManualClock
from holon.context import ActionFactory
from holon.domain.client import ADMIN, SCHEDULER, Client
from holon.domain.job import Job
from holon.engine.core import Engine, EngineSettings
from holon.engine.requests import Listing
from holon.engine.scheduler import Scheduler
from holon.engine.schedules_file import Schedule
from holon.engine.timetable import Every, Timetable
from holon.errors import NotFound, ResourceExhausted, StoreUnavailable
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


def results(*nodes: Scheduler) -> dict[str, float]:
    """What became of slots, in all."""
    told: dict[str, float] = {}
    for node in nodes:
        for (_, result), count in node.metrics.slots.values.items():
            told[result] = told.get(result, 0) + count
    return {result: count for result, count in told.items() if count}


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


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
