"""A task that nobody at the bottom can do, and the holons between it and the top."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from tests.integration.holon_line import a_holon, passing, spreading, tree_of, until


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
