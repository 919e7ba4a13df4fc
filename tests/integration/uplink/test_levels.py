"""A task that nobody at the bottom can do, and the holons between it and the top."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from tests.integration.holon_line import a_holon, passing, spreading, tree_of, until
from tests.redis_server import RedisServer


def asked(name: str) -> Blueprint:
    """A blueprint that has a skill do something which the job names: what it needs is not known before."""
    made = Blueprint(name)

    @made.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data.get("skill", "nobodys"), {}, {"success": "end"})

    @made.handler("end", is_end=True)
    async def end() -> None: ...

    return made


def nobodys(name: str) -> Blueprint:
    """The same, but what it needs is known once it has run."""
    return passing(name, "nobodys")


@pytest.mark.slow
@pytest.mark.parametrize("middle", [passing, spreading])
@pytest.mark.parametrize("last", [asked, nobodys])
async def test_what_nobody_at_the_bottom_can_do_comes_back_to_the_top(
    tmp_path: Path, middle: Callable[[str, str], Blueprint], last: Callable[[str], Blueprint]
) -> None:
    other = Blueprint("middle")

    @other.handler("end", is_start=True, is_end=True)
    async def end() -> None: ...

    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", middle("middle", "low"), above=root, ESCALATE_AFTER=1) as between,
        a_holon(tmp_path, "low", last("low"), above=between, ESCALATE_AFTER=1),
    ):
        job = (await root.client.create_job("top", {"skill": "nobodys"})).job_id

        async def below() -> bool:
            return ("job", "middle") in [(node.kind, node.name) for node in await tree_of(root.client, job)]

        await until(below, "the holon in the middle has a job")
        async with a_holon(tmp_path, "second", other, above=root, certificate="child-2"):
            assert (await root.client.wait_for(job, timeout=40)).status == "finished"


@pytest.mark.parametrize("middle", [passing, spreading])
async def test_what_nobody_below_any_of_the_nodes_in_the_middle_can_do_comes_back_to_the_top(
    tmp_path: Path, server: RedisServer, middle: Callable[[str, str], Blueprint]
) -> None:
    shared: dict[str, Any] = {"STORAGE_URI": server.uri(server.database()), "ESCALATE_AFTER": 1}
    folders = [tmp_path / name for name in ("a", "b")]
    async with AsyncExitStack() as holons:
        root = await holons.enter_async_context(a_holon(tmp_path, "root", passing("top", "middle")))
        for folder in folders:
            folder.mkdir()
            between = await holons.enter_async_context(
                a_holon(folder, folder.name, middle("middle", "low"), above=root, **shared)
            )
            low = a_holon(
                folder, "low", asked("low"), above=between, certificate=f"child-{folder.name}", ESCALATE_AFTER=1
            )
            await holons.enter_async_context(low)
        job = (await root.client.create_job("top", {"skill": "nobodys"})).job_id
        had_by: set[str] = set()

        async def came_back() -> bool:
            tree = {node.name: node for node in await tree_of(root.client, job) if node.kind == "task"}
            had_by.update(node.name for node in tree.values())
            return "low" in had_by and tree["middle"].status == "queued"

        await until(came_back, "the task of the job at the top is there again")
