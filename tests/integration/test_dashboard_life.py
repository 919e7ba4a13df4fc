"""The dashboard in a browser while things go on: pages turn, jobs are decided and ended, a node falls silent."""

from __future__ import annotations

import asyncio

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from tests.integration.dashboard_page import NEEDS_CHROMIUM, PATIENCE, PAUSE, dashboard
from tests.integration.http_node import AUTH, GUARD, TOKEN, Node, running

pytestmark = NEEDS_CHROMIUM
PAGE = 50
FIRST = "document.querySelector('tbody a')?.innerText"
OLDER, NEWER = (f"document.querySelector('p.buttons button:{which}-child')" for which in ("last", "first"))


def cleaning() -> Blueprint:
    """Is not over when it is cancelled, before it was told that it may be."""
    blueprint = Blueprint("cleaning", api_endpoint="/jobs/cleaning", api_version="v1")

    @blueprint.handler(is_start=True)
    async def wait(actions: ActionFactory) -> None:
        actions.await_signal({"on": "end", "cancelled": "clean"})

    @blueprint.handler
    async def clean(actions: ActionFactory) -> None:
        actions.await_signal({"clean": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def above() -> Blueprint:
    """Has a part that cleans up."""
    blueprint = Blueprint("above", api_endpoint="/jobs/above", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.run_blueprint("cleaning", transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def asking(go_on: asyncio.Event) -> Blueprint:
    """Takes its time to go on once it was decided."""
    blueprint = Blueprint("asking", api_endpoint="/jobs/asking", api_version="v1")

    @blueprint.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.await_human_approval("mail", "Is it?", {"yes": "work"})

    @blueprint.handler
    async def work(actions: ActionFactory) -> None:
        await go_on.wait()
        actions.go_to("end")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def asking_again() -> Blueprint:
    """Asks twice, and then waits for a signal."""
    blueprint = Blueprint("asking_again", api_endpoint="/jobs/asking_again", api_version="v1")

    @blueprint.handler(is_start=True)
    async def first(actions: ActionFactory) -> None:
        actions.await_human_approval("mail", "The first?", {"yes": "second"})

    @blueprint.handler
    async def second(actions: ActionFactory) -> None:
        actions.await_human_approval("mail", "The second?", {"yes": "third"})

    @blueprint.handler
    async def third(actions: ActionFactory) -> None:
        actions.await_signal({"on": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


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


async def told(node: Node, job_id: str, what: str) -> None:
    """Wait until a job's history has this."""
    async with asyncio.timeout(GUARD):
        while what not in (await node.client.get(f"/api/v1/jobs/{job_id}/history", headers=AUTH)).text:
            pass


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


async def test_what_was_done_is_said_and_what_a_job_has_begun_is_followed_to_its_end() -> None:
    go_on = asyncio.Event()
    more = [above(), asking(go_on), cleaning()]
    async with running(more=more) as node, dashboard(f"http://127.0.0.1:{node.door.port}") as shown:
        asked, job_id = [await node.created(f"/api/v1/jobs/{name}") for name in ("asking", "above")]
        await shown.sign_in(TOKEN)
        await shown.go(f"jobs/{asked}")
        await shown.press(".question input[value=yes]")
        await shown.press(".question > button")
        await shown.shows("Decided: yes", ".question [role=status]")
        await shown.press("dialog button.grave")
        await shown.shows("The cancel was requested.", "p.buttons [role=status]")
        go_on.set()
        await shown.shows("cancelled", "dl")
        await shown.page.until("!document.querySelector('p.buttons button')")

        # What it has begun ends later than itself.
        await shown.hold(PAUSE)
        await shown.go(f"jobs/{job_id}")
        await shown.shows("waiting for signal", ".tree")
        await shown.press("dialog button.grave")
        await shown.shows("cancelled", "dl")
        await shown.page.until("held.size")
        part = (await node.client.get("/api/v1/jobs", params={"parent_job_id": job_id}, headers=AUTH)).json()["jobs"][0]
        said = {"name": "clean"}
        path = f"/api/v1/jobs/{part['id']}/signals"
        assert (await node.client.post(path, json=said, headers=AUTH)).status_code == 200
        await node.ended(part["id"])
        await told(node, job_id, "result_superseded")
        await shown.pass_time()
        await shown.shows("in end", ".tree")
        await shown.shows("result superseded", ".timeline")


async def test_what_was_filled_in_for_a_question_that_others_decide_is_said_to_be_gone_and_the_focus_goes_on() -> None:
    lost = "Your entries were not sent."
    focused = "document.activeElement.closest('main div')?.innerText"
    async with running(more=[asking_again()]) as node, dashboard(f"http://127.0.0.1:{node.door.port}") as shown:
        job_id = await node.created("/api/v1/jobs/asking_again")
        await shown.sign_in(TOKEN)
        await shown.go(f"jobs/{job_id}")
        await shown.shows("The first?", ".question")
        await shown.fill("#comment", "typed")
        decision = {"decision": "yes"}
        reply = await node.client.post(f"/_public/webhooks/approval/{job_id}", json=decision, headers=AUTH)
        assert reply.status_code == 200
        await shown.shows("The second?", ".question")
        assert [text in await shown.page.run(focused) for text in (lost, "The second?")] == [True, True]
        assert await shown.page.run("document.querySelector('#comment').value") == ""

        # Of what is sent from here nothing is lost.
        await shown.fill("#comment", "typed")
        await shown.press(".question input[value=yes]")
        await shown.page.run("document.querySelector('.question > button').focus()")
        await shown.press(".question > button")
        await shown.shows("Signal needed", ".question")
        await shown.page.until("!document.querySelector('#comment')")
        assert await shown.page.run(focused) == ""
        assert lost not in await shown.page.run("document.querySelector('main').innerText")

        await shown.fill("#data", "typed")
        reply = await node.client.post(f"/api/v1/jobs/{job_id}/signals", json={"name": "on"}, headers=AUTH)
        assert reply.status_code == 200
        await shown.shows("finished", "dl")
        await shown.page.until("!document.querySelector('.question')")
        assert lost in await shown.page.run(focused)
