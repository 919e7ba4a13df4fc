"""Holons of three levels: who tries again what failed at the bottom, and a cancel that finds a link away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import RunningNode
from holon.worker import TaskError
from tests.chaos.link import Link
from tests.conftest import Measured
from tests.integration.holon_line import a_holon, passing, tree_of, until

# It is a second at a quiet machine, and this at any.
STOPPED_S = 10.0


def tidying(name: str, skill: str) -> Blueprint:
    """A blueprint that has a skill do something, and another clean up when that is cancelled."""
    made = Blueprint(name)

    @made.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(skill, initial_data, {"success": "end", "cancelled": "tidy"})

    @made.handler("tidy")
    async def tidy(actions: ActionFactory) -> None:
        actions.dispatch_task("tidy", {}, {"success": "end"})

    @made.handler("end", is_end=True)
    async def end() -> None: ...

    return made


class Line:
    """Three holons, whose lower link can be cut."""

    def __init__(self, root: RunningNode, middle: RunningNode, last: RunningNode, link: Link, ports: list[int]) -> None:
        self.root = root
        self.middle = middle
        self.last = last
        self._link = link
        self._ports = ports

    def cut(self) -> None:
        self._ports[:] = [0]
        self._link.cut()

    def mend(self) -> None:
        self._ports[:] = [self.middle.ports.worker]

    async def linked(self) -> bool:
        """Whether the lower link stands."""
        return bool([one async for one in self.middle.client.node.list_workers(connected=True)])


@asynccontextmanager
async def a_line(folder: Path, lowest: Blueprint) -> AsyncIterator[Line]:
    async with (
        a_holon(folder, "root", passing("top", "middle")) as root,
        a_holon(folder, "middle", passing("middle", lowest.name), above=root) as middle,
        Link("last to middle", lambda: ports[0] or None) as link,
    ):
        ports = [middle.ports.worker]
        url = {"PARENT_URL": f"grpcs://localhost:{link.port}"}
        async with a_holon(folder, "last", lowest, above=middle, **url) as last:
            yield Line(root, middle, last, link, ports)


async def test_what_fails_for_now_at_the_bottom_is_tried_again_there_alone_and_told_level_by_level(
    tmp_path: Path,
) -> None:
    runs = 0
    async with a_line(tmp_path, passing("low", "work")) as line:
        worker = line.last.new_worker("leaf")

        @worker.skill("work")
        async def work() -> None:
            nonlocal runs
            runs += 1
            raise TaskError("TRANSIENT_ERROR", "the tide")

        async with worker:
            job = await line.root.run("top", {})
        # Each level tries three times more what is its own; and of this only the lowest is.
        assert runs == 1 + 3
        assert job.error is not None
        causes = job.error.details["causes"]
        assert [job.error.code, *(one["code"] for one in causes)] == [
            "CHILD_QUARANTINED", "CHILD_QUARANTINED", "TRANSIENT_ERROR",
        ]  # fmt: skip
        holons = [(await one.client.node.info()).holon_id for one in (line.middle, line.last)]
        assert [(one["name"], one["holon_id"]) for one in causes] == list(zip(("middle", "low"), holons, strict=True))


async def test_a_cancel_at_the_root_reaches_the_leaf_when_the_link_is_back_which_cleans_up_once(
    tmp_path: Path, measured: Measured
) -> None:
    loop = asyncio.get_running_loop()
    begun, stopped, tidied = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tidies = 0
    async with a_line(tmp_path, tidying("low", "work")) as line:
        worker = line.last.new_worker("leaf")

        @worker.skill("work")
        async def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            try:
                await asyncio.Event().wait()
            finally:
                loop.call_soon_threadsafe(stopped.set)

        @worker.skill("tidy")
        async def tidy() -> None:
            nonlocal tidies
            tidies += 1
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(tidied.wait(), loop))

        async def has_tidied() -> bool:
            found = {(one.kind, one.name): one.status for one in await tree_of(line.root.client, job)}
            return (found.get(("job", "low")), found.get(("task", "tidy"))) == ("cancelled", "success")

        async with worker:
            job = (await line.root.client.create_job("top", {})).job_id
            await begun.wait()
            line.cut()
            await until(lambda: _not(line.linked()), "the link is away")
            await line.root.client.cancel_job(job)
            assert (await line.root.client.wait_for(job, timeout=STOPPED_S)).status == "cancelled"
            assert not stopped.is_set()
            line.mend()
            await until(line.linked, "the link is back")
            back = loop.time()
            await asyncio.wait_for(stopped.wait(), STOPPED_S)
            measured(f"stopped {loop.time() - back:.3f} s after the link was back")
            await until(lambda: tidies, "the leaf cleans up")
            assert (await line.root.client.get_job(job)).status == "cancelled"
            tidied.set()
            await until(has_tidied, "the job at the bottom is over")
        assert tidies == 1
        assert (await line.root.client.get_job(job)).status == "cancelled"


async def _not(so: Any) -> bool:
    return not await so
