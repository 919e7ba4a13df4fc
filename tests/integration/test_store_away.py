"""Jobs while the store takes nothing for a moment: their handlers are not blamed, and the log is short."""

from __future__ import annotations

from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import StoreUnavailable
from holon.ports import Committed
from holon.storage.memory import MemoryStorage
from holon.testing import running_node

BLUEPRINT = Blueprint("moved", api_endpoint="/jobs/moved", api_version="v1")
TIMES = 10


@BLUEPRINT.handler(is_start=True)
async def start(actions: ActionFactory) -> None:
    actions.send_event("moving")
    actions.go_to("finished")


@BLUEPRINT.handler(is_end=True)
async def finished() -> None: ...


class Full(MemoryStorage):
    """A store that has room for what is small, and for steps only after so many of them."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def commit(self, *arguments: Any) -> Committed:
        if self.refused < TIMES:
            self.refused += 1
            raise StoreUnavailable("the store could not write: database or disk is full", retry_after=0.001)
        return await super().commit(*arguments)


async def test_i6_a_job_whose_step_the_store_could_not_take_runs_again_soon_and_is_no_suspect() -> None:
    store = Full()
    async with running_node(BLUEPRINT, storage=store) as node:
        job = await node.run("moved", {})
        told = [event.event_type async for event in node.client.history(job.id)]
    assert (job.status, store.refused) == ("finished", TIMES)
    # Its handler has sent it with each of the runs.
    assert told.count("blueprint_event:moving") == 1


async def test_what_the_store_does_not_take_is_said_once_and_not_at_each_try(caplog: pytest.LogCaptureFixture) -> None:
    async with running_node(BLUEPRINT, storage=Full()) as node:
        await node.run("moved", {})
    said = [record.getMessage() for record in caplog.records if "the step was not stored" in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("the step was not stored: the store could not write: database or disk is full")
