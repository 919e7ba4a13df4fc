"""Jobs of a parent's tasks are kept until their results are settled, however old they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.engine.core import EngineSettings
from holon.engine.requests import Creating
from holon.rxon.v1 import worker_pb2
from holon.uplink.books import KIND
from tests.integration.a_child import Child, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates

# In milliseconds: whatever has ended is deleted at once.
AT_ONCE = EngineSettings(job_retention=1)


def echo() -> Blueprint:
    blueprint = Blueprint("echo", api_endpoint="/jobs/echo", api_version="v1")

    @blueprint.handler(is_start=True, is_end=True)
    async def end(initial_data: dict[str, Any]) -> dict[str, Any]:
        return {"echo": initial_data.get("n")}

    return blueprint


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(GUARD):
        while not await condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)


async def purged(child: Child) -> None:
    """Wait until a job that is nobody's task has been made and deleted: then others had their chance."""
    accepted = await child.engine.jobs.create(Client("ann"), Creating("echo", {}))

    async def gone() -> bool:
        return await child.store.job(accepted.job_id) is None

    await until(gone)


async def test_a_result_that_is_not_settled_outlives_the_retention_and_a_restart(certificates: Certificates) -> None:
    async with a_child(certificates, [echo()], of_engine=AT_ONCE) as child:
        stream = await child.linked()
        await offered(stream, "t1", "echo", {"n": 1})
        assert (await answer(stream, passing=("progress", "accepted"))).result.status == "success"
        await purged(child)
        assert len(await child.jobs()) == 1
        async with a_child(certificates, [echo()], store=child.store, parent=child.parent, of_engine=AT_ONCE) as again:
            stream = await again.linked()
            assert [one.task_id for one in stream.hello.resume.leases] == ["t1"]
            told = await answer(stream, passing=("progress", "accepted"))
            assert (told.task_id, told.result.status) == ("t1", "success")
            committed = worker_pb2.ResultAck(
                task_id=told.task_id, lease_id=told.lease_id, verdict=worker_pb2.VERDICT_COMMITTED
            )
            await stream.send(update_acks=worker_pb2.UpdateAcks(results=[committed]))

            async def settled() -> bool:
                return not await again.store.documents(KIND)

            await until(settled)
            await purged(again)
            assert not await again.jobs()
