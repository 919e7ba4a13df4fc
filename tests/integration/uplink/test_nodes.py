"""A child holon of several nodes: one of them links, and knows what the workers of the others have room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from holon import Blueprint
from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.matching import Offering
from holon.storage import MemoryStorage
from holon.testing import RunningNode
from holon.uplink import places
from holon.uplink.provided import Provided, text_of
from tests.integration.a_child import STORE, Child, a_child, answer, offered
from tests.integration.holon_line import GUARD_S, a_holon, spreading, until
from tests.integration.scripted_node import Certificates, Stream
from tests.redis_server import RedisServer

PLACES = 12


@pytest.fixture(autouse=True)
def told_soon(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.uplink.places.LOOK_S", 0.02)


def one(name: str, skill: str) -> Blueprint:
    made = Blueprint(name)

    @made.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task(skill, {}, {"success": "end"})

    @made.handler(is_end=True)
    async def end() -> None: ...

    return made


@pytest.mark.parametrize("skill", ["mid", "work"], ids=["blueprint", "passed on"])
async def test_all_places_at_a_node_that_does_not_link_get_work_at_once(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch, skill: str
) -> None:
    # Not by one more each time that a job ends.
    monkeypatch.setattr("holon.uplink.credits.RAISE_S", 3_600)
    shared: dict[str, Any] = {"STORAGE_URI": server.uri(server.database()), "UPLINK_SKILLS": "work"}
    begun, all_begun = 0, asyncio.Event()

    async def work(params: dict[str, Any]) -> dict[str, Any]:
        nonlocal begun
        begun += 1
        if begun == PLACES:
            all_begun.set()
        await all_begun.wait()
        return {}

    async with a_holon(tmp_path, "root", spreading("top", skill)) as root, of_child(tmp_path, root, "a", shared):

        async def linked() -> bool:
            return bool([worker async for worker in root.client.node.list_workers(connected=True)])

        await until(linked, "a has linked")
        async with of_child(tmp_path, root, "b", shared) as other:
            worker = other.new_worker("leaf", max_concurrent=PLACES)
            worker.skill("work")(work)
            async with worker, asyncio.timeout(GUARD_S):
                assert (await root.run("top", {"branches": 2 * PLACES})).status == "finished"


@asynccontextmanager
async def of_child(tmp_path: Path, root: RunningNode, name: str, shared: dict[str, Any]) -> AsyncIterator[RunningNode]:
    (tmp_path / name).mkdir()
    async with a_holon(tmp_path / name, name, one("mid", "work"), above=root, **shared) as node:
        yield node


@asynccontextmanager
async def with_another_node(certificates: Certificates) -> AsyncIterator[tuple[Child, Stream]]:
    """A child, another node of which has workers who offer `leaf`."""
    async with MemoryStorage(STORE, SystemClock()) as store:
        text, _ = text_of(Provided(frozenset({"leaf"}), frozenset({Offering("leaf")})))
        await store.put_document("providers", "n2", text, version=0)
        async with a_child(certificates, [one("mid", "leaf")], store=store) as child:
            yield child, await child.linked()


async def tell(child: Child, idle: dict[str, Any], jobs: Sequence[str] = ()) -> None:
    """The other node tells how many places are idle there, and which jobs have the others."""
    known = await child.store.document(places.KIND, "n2")
    text = orjson.dumps({"idle": idle, "jobs": jobs})
    await child.store.put_document(places.KIND, "n2", text, version=known.version if known is not None else 0)


async def granted(child: Child, number: int) -> None:
    """The parent comes to have so many credits."""
    await child.until(lambda: (one := child.uplink._credits) is not None and one._due()[1] == {"mid": number})


async def test_what_another_node_tells_of_its_places_is_granted(certificates: Certificates) -> None:
    async with with_another_node(certificates) as (child, _):
        await tell(child, {"mid": 5})
        await granted(child, 5)
        # What it says cannot be read, as perhaps that of a later release: so it is not known.
        await tell(child, {"mid": "many"})
        await granted(child, 1)
        # Its workers take no more tasks, though they are still there.
        await tell(child, {"mid": 0})
        await granted(child, 0)


async def test_places_that_the_parents_jobs_have_at_another_node_stay_theirs(certificates: Certificates) -> None:
    async with with_another_node(certificates) as (child, stream):
        await tell(child, {"mid": 2})
        await granted(child, 2)
        for task in ("t1", "t2"):
            await offered(stream, task, "mid", {})
            assert (await answer(stream)).HasField("accepted")
        jobs = [record.job.id for record in await child.jobs()]
        # They have two of three places, and a job that is nobody's here has the other.
        await tell(child, {"mid": 1}, jobs)
        await granted(child, 3)
        await tell(child, {"mid": 0}, [*jobs, "another"])
        await granted(child, 2)
        await stream.stop("t1")
        await child.until(lambda: child.uplink.held == 1)
        assert child.uplink._credits is not None
        assert child.uplink._credits._due()[1] == {"mid": 2}
