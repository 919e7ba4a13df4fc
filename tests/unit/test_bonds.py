"""A part of a job that is gone is left behind without asking anybody but the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from holon import Blueprint
from holon.domain.children import JOB_ABOVE
from holon.domain.client import Client
from holon.engine.core import Engine, EngineSettings
from holon.engine.requests import Creating
from holon.errors import StoreUnavailable
from holon.ports import HistoryStorage, JobRecord, Notice, StoreSettings
from holon.storage import MemoryStorage
from holon.wire.trees import read_summary

part = Blueprint("part", api_endpoint="/jobs/part")


@part.handler(is_start=True, is_end=True)
async def begins() -> None:
    """It must not."""


class Away:
    """A database of history that nobody can ask."""

    async def job(self, job_id: str) -> JobRecord | None:
        raise StoreUnavailable("it is away")

    async def add(self, notices: Sequence[Notice]) -> None:
        raise StoreUnavailable("it is away")

    async def purge(self, finished_before: int, limit: int) -> int:
        raise StoreUnavailable("it is away")


async def test_a_part_whose_job_above_is_gone_does_not_begin_though_the_database_of_history_is_away() -> None:
    settings, client = StoreSettings("node"), Client("me")
    async with MemoryStorage(settings) as store:
        history = cast(HistoryStorage, Away())
        engine = Engine(store, settings, EngineSettings(), history=history, read_told=read_summary)
        engine.blueprints.register(part)
        ended: asyncio.Queue[JobRecord] = asyncio.Queue()

        def seen(record: JobRecord | None) -> None:
            if record is not None and record.job.status.terminal:
                ended.put_nowait(record)

        running = asyncio.create_task(engine.run())
        made = await engine.jobs.create(client, Creating("part", {}, parent_job_id="0-gone", depth=1))
        engine.following.follow(made.job_id, seen)
        async with asyncio.timeout(20):
            job = (await ended.get()).job
        assert (job.status, job.error and JOB_ABOVE in job.error.message) == ("cancelled", True)
        running.cancel()
        await asyncio.wait((running,))
