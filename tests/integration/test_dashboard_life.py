"""The dashboard in a browser while things go on: pages turn, and a node falls silent."""

from __future__ import annotations

import asyncio

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from tests.integration.dashboard_page import NEEDS_CHROMIUM, PATIENCE, PAUSE, dashboard
from tests.integration.http_node import AUTH, TOKEN, running

pytestmark = NEEDS_CHROMIUM
PAGE = 50
FIRST = "document.querySelector('tbody a')?.innerText"
OLDER, NEWER = (f"document.querySelector('p.buttons button:{which}-child')" for which in ("last", "first"))


def winding() -> Blueprint:
    """Has a longer history than a page shows."""
    blueprint = Blueprint("winding", api_endpoint="/jobs/winding", api_version="v1")
    rounds = iter(range(100))

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end" if next(rounds, None) is None else "start")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def test_pages_turn_one_at_a_time_and_a_node_that_does_not_answer_is_told_of_until_it_does() -> None:
    async with running(more=[winding()]) as node, dashboard(f"http://127.0.0.1:{node.door.port}") as shown:
        await asyncio.gather(*(node.created("/api/v1/jobs/doubling", {"n": n}) for n in range(2 * PAGE)))
        job_id = await node.created("/api/v1/jobs/winding")
        await node.ended(job_id)
        listed = (await node.client.get("/api/v1/jobs", params={"limit": 100}, headers=AUTH)).json()["jobs"]
        second = listed[PAGE]["id"]
        await shown.sign_in(TOKEN)
        await shown.page.until(f"{FIRST} === '{job_id}'")
        for back in (f"{NEWER}.click()", f"{NEWER}.click(), {NEWER}.click()"):
            await shown.page.run(f"{OLDER}.click(), {OLDER}.click()")
            await shown.page.until(f"{FIRST} === '{second}'")
            await shown.page.run(back)
            await shown.page.until(f"{FIRST} === '{job_id}'")
        assert await shown.page.run(f"{NEWER}.disabled")
        # What is no page leads to this one.
        await shown.go("constructor")
        await shown.page.until("location.hash === '#/jobs' && document.title === 'Holon: jobs'")

        # Asked for by a button, at a job that is over and not looked at any more.
        await shown.go(f"jobs/{job_id}")
        await shown.page.until("document.querySelectorAll('.timeline li').length === 200")
        more, silence = "section:has(.timeline) > button:not([hidden])", "The node does not answer."
        await shown.hold(PATIENCE, PAUSE)
        await shown.answered(on=False)
        await shown.press(more)
        await shown.pass_time()
        await shown.shows(silence, "#notice")
        await shown.answered(on=True)
        await shown.press(more)
        await shown.page.until("document.querySelectorAll('.timeline li').length > 200")
        await shown.page.until("document.querySelector('#notice').textContent === ''")

        for view, text in (("blueprints", "winding"), ("blueprints/winding", "States"), ("jobs", job_id)):
            await shown.answered(on=False)
            await shown.go(view)
            await shown.pass_time()
            await shown.shows(silence, "#notice")
            await shown.answered(on=True)
            await shown.pass_time()
            await shown.shows(text)
