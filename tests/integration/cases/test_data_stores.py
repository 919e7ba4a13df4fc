"""Acceptance: data stores, as the handlers of many jobs see them."""

from __future__ import annotations

from typing import Any

from holon import Blueprint
from holon.context import ActionFactory, ClientConfig, JobContext
from tests.integration.cases.site import Start


def blueprint(**stores: Any) -> Blueprint:
    return Blueprint("bp", api_endpoint="/jobs/bp", api_version="v1", data_stores=stores)


class Pool:
    """Stands for what is no dict, such as a client of Redis."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, query: str) -> str:
        self.asked.append(query)
        return f"row {len(self.asked)}"


async def test_b13_a_handler_is_given_its_stores_beside_all_else_that_it_asks_for(start: Start) -> None:
    pool = Pool()
    bp = blueprint(cache={"greeting": "hello"}, pool=pool)

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["path"] = "a"
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end(  # type: ignore[no-untyped-def]
        job_id: str, initial_data: Any, state_history: Any, client: ClientConfig, data_stores, path: str
    ) -> Any:
        greeting = await data_stores.cache.get("greeting")
        return [job_id, initial_data, state_history, client.name, greeting, await data_stores.pool.fetch("x"), path]

    async with start(bp) as node:
        job = await node.run("bp", {"data_stores": "the client's own"})
        given = {"data_stores": "the client's own"}
        assert job.result == [job.id, given, {"path": "a"}, "default", "hello", "row 1", "a"]
        assert pool.asked == ["x"]


async def test_what_one_job_puts_into_a_store_the_next_finds_in_the_same_process(start: Start) -> None:
    bp = blueprint(seen={})

    @bp.handler(is_start=True, is_end=True)
    async def count(context: JobContext) -> int:
        seen = context.data_stores.seen
        await seen.set("jobs", (await seen.get("jobs") or 0) + 1)
        return int(await seen.get("jobs"))

    async with start(bp) as node:
        counted = [(await node.run("bp", {})).result for _ in range(4)]
        # Where there are two nodes here, they share the process, and the blueprint.
        assert counted == [1, 2, 3, 4]


async def test_a_store_that_is_not_there_is_the_handlers_error_and_names_those_that_are(start: Start) -> None:
    bp = blueprint(cache={})

    @bp.handler(is_start=True, is_end=True)
    async def begin(data_stores: Any) -> Any:
        return await data_stores.cach.get("x")

    async with start(bp, JOB_MAX_RETRIES=0) as node:
        job = await node.run("bp", {})
        assert job.error is not None
        assert (job.status, job.error.code) == ("quarantined", "HANDLER_ERROR")
        assert "blueprint 'bp' has no data store 'cach'; it has cache" in job.error.message
