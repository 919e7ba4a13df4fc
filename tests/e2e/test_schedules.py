"""Schedules of a node that is killed and started again, and as the command line shows them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from holon.client import Client
from holon.domain.client import SCHEDULER
from tests.e2e.cli_node import holon_forked
from tests.e2e.processes import Node, ended_with_test, until

KILLS = 4
EVERY_S = 2
BLUEPRINT = """
from holon import Blueprint
from holon.context import ActionFactory, ClientConfig

tick = Blueprint("tick")


@tick.handler(is_start=True)
async def start(actions: ActionFactory):
    actions.go_to("over")


@tick.handler(is_end=True)
async def over(client: ClientConfig):
    return client.params["due_at"]
"""


def site(folder: Path, schedules: str, **settings: object) -> Node:
    """A node with a blueprint, and schedules of it."""
    (folder / "flows").mkdir()
    (folder / "flows" / "tick.py").write_text(BLUEPRINT)
    (folder / "schedules.toml").write_text(schedules)
    path = folder / "schedules.toml"
    return Node(folder, folder / "flows", SCHEDULES_CONFIG_PATH=path, **settings)


async def due(node: Node) -> list[int]:
    """For when the jobs of schedules were made that are over, oldest first."""
    async with Client(node.client_url, node.token, node.ca) as client:
        jobs = [job.id async for job in client.list_jobs(owner=SCHEDULER) if job.status == "finished"]
        return sorted([int(str((await client.get_job(job)).result)) for job in jobs])


async def test_a_node_that_is_killed_again_and_again_doubles_no_slot_and_catches_up_the_last(
    tmp_path: Path, store: str
) -> None:
    schedules = f'[tick]\nblueprint = "tick"\ninterval_seconds = {EVERY_S}\n'
    node = site(tmp_path, schedules, STORAGE_URI=store)
    async with ended_with_test(node):
        for number in range(KILLS):
            await node.start()
            begun = int(time.time()) // EVERY_S * EVERY_S
            known = 0

            async def made(begun: int = begun) -> bool:
                # What was due when it started is there, or one that was due as it did.
                return any(slot >= begun for slot in await due(node))

            await until(made, "a slot's job is made")
            known = len(await due(node))
            await node.process.end()
            if number % 2:
                # Slots go by that nobody makes.
                await asyncio.sleep(2 * EVERY_S)
        await node.start()
        await until(lambda: _more(node, known), "the schedule goes on")
        slots = await due(node)
    assert set(Counter(slots).values()) == {1}
    assert all(slot % EVERY_S == 0 for slot in slots)


async def _more(node: Node, than: int) -> bool:
    return len(await due(node)) > than


async def test_what_operators_see_of_schedules(tmp_path: Path) -> None:
    schedules = '[day]\nblueprint = "tick"\ninterval_seconds = 86400\ncatch_up_seconds = 86400\n'
    node = site(tmp_path, schedules, STORAGE_URI="memory://")
    asked = {"HOLON_URL": node.client_url, "HOLON_TOKEN": node.token, "HOLON_CA": node.ca}

    async def run(*words: str, **env: str) -> Any:
        return await asyncio.to_thread(holon_forked, tmp_path, *words, env=asked | env)

    async with ended_with_test(node):
        await node.start()
        await until(lambda: _more(node, 0), "it is caught up")
        listed = orjson.loads((await run("jobs", "list", "--owner", SCHEDULER, "--json")).out)
        [job] = listed["jobs"]
        assert (await run("jobs", "list", "--json")).json["jobs"] == []
        told = (await run("jobs", "history", job["id"])).out
        assert "scheduler:day" in told
        assert "schedule day: every 86400 s, next job at " in node.process.tail()

    files = {"SCHEDULES_CONFIG_PATH": str(tmp_path / "schedules.toml"), "BLUEPRINTS_DIR": str(tmp_path / "flows")}
    checked = await run("check", "--json", **files)
    assert checked.code == 0
    [shown] = checked.json["schedules"]
    assert (shown["name"], shown["blueprint"]) == ("day", "tick")
    assert shown["next_at"].endswith("T00:00:00+00:00")
    assert "schedule day: tick, every 86400 s, next at " in (await run("check", **files)).out
    (tmp_path / "schedules.toml").write_text(schedules.replace("tick", "tock") + "x = 1\n")
    # What is wrong with the file comes first.
    refused = await run("check", **files)
    assert (refused.code, "[day] x: is not a known key" in refused.err, "tock" in refused.err) == (2, True, False)
    (tmp_path / "schedules.toml").write_text(schedules.replace("tick", "tock"))
    refused = await run("check", **files)
    assert (refused.code, "[day] blueprint: this node has no blueprint named 'tock'" in refused.err) == (2, True)
