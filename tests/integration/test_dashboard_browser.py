"""The dashboard in a browser: people see jobs and steer them, and what jobs carry stays text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.domain.graph import Edge, Graph
from holon.domain.graph import Node as State
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.clients import Entry
from holon.security.tokens import digest_of
from tests.integration.dashboard_page import NEEDS_CHROMIUM, PAUSE, Dashboard, dashboard
from tests.integration.grpc_node import CLIENT_TOKEN, hello, offering, result, updates
from tests.integration.http_node import AUTH, TOKEN, Node, running
from tests.integration.test_node_over_http import Doors, opened

pytestmark = NEEDS_CHROMIUM
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
LARGE = 2**63 - 1
PAGE = 200
# Of what is shown twice: whether it stays when nothing has changed, is renewed when something has, and whether what was
# unfolded and had the focus still is and has.
RENEWED = """import('./dashboard/dom.js').then(({ el, render }) => {
  const place = document.querySelector('main').appendChild(el('div'));
  const make = () => [el('details', {}, el('summary', { 'data-key': '"]x' }, 'a'), 'b'), el('p')];
  render(place, [1], make);
  const first = place.firstChild;
  first.open = true;
  first.firstChild.focus();
  render(place, [1], make);
  const stays = place.firstChild === first;
  render(place, [2], make);
  const now = place.firstChild;
  return [stays, now !== first, now.open, document.activeElement === now.firstChild];
})"""


def asking() -> Blueprint:
    """Asks, and answers with what a page must not take for its own."""
    blueprint = Blueprint("asking", api_endpoint="/jobs/asking", api_version="v1")

    @blueprint.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.await_human_approval(HOSTILE, HOSTILE, {"yes": "done", "again": "ask", "no": "refused"})

    @blueprint.handler(is_end=True)
    async def done(state_history: dict[str, object]) -> dict[str, object]:
        return {"said": HOSTILE, "large": LARGE} | state_history

    @blueprint.handler(is_end=True, outcome="failed")
    async def refused() -> None: ...

    return blueprint


def awaiting() -> Blueprint:
    """Waits for two signals, each called as a page must not take for its own, and answers with what came with them."""
    blueprint = Blueprint("awaiting", api_endpoint="/jobs/awaiting", api_version="v1")

    @blueprint.handler(is_start=True)
    async def first(actions: ActionFactory) -> None:
        ways = {HOSTILE: "second", "refused": "closed", "timeout": "closed"}
        actions.await_signal(ways, timeout_seconds=86_400)

    @blueprint.handler
    async def second(actions: ActionFactory) -> None:
        actions.await_signal({"early": "third"})

    @blueprint.handler
    async def third(actions: ActionFactory) -> None:
        actions.await_signal({"late": "end"})

    @blueprint.handler(is_end=True)
    async def end(state_history: dict[str, object]) -> dict[str, object]:
        return state_history

    @blueprint.handler(is_end=True, outcome="failed")
    async def closed() -> None: ...

    return blueprint


def wide() -> Blueprint:
    """Has a longer history and a wider tree than a page shows."""
    blueprint = Blueprint("wide", api_endpoint="/jobs/wide", api_version="v1")
    rounds = iter(range(PAGE // 2))

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        if next(rounds, None) is None:
            actions.dispatch_parallel([{"type": "nobody-has-this"}] * PAGE, aggregate_into="end")
        else:
            actions.go_to("start")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def decided(node: Node, job_id: str, decision: str) -> None:
    reply = await node.client.post(f"/_public/webhooks/approval/{job_id}", json={"decision": decision}, headers=AUTH)
    assert reply.status_code == 200


async def test_somebody_signs_in_sees_jobs_end_decides_one_and_cancels_one() -> None:
    async with running(more=[asking(), wide()]) as node, dashboard(f"http://127.0.0.1:{node.door.port}") as shown:
        given = {"to": HOSTILE, "large": LARGE}
        first, second, third = [
            await node.created(f"/api/v1/jobs/{name}", given) for name in ("asking", "asking", "wide")
        ]
        await shown.sign_in("a-token-that-nobody-has")
        await shown.shows("Unauthorized: Invalid token. A client token is HOLON_TOKEN in .holon/dev.toml", "#notice")
        await shown.shows("clients.toml", "#notice")
        await shown.sign_in(TOKEN)
        for job in (first, second, third):
            await shown.shows(job, "table")
        # The list is what was asked for, page by page.
        await asyncio.gather(*(node.created("/api/v1/jobs/doubling", {"n": n}) for n in range(50)))
        await shown.go("jobs?status=")
        await shown.page.until("document.querySelectorAll('tbody tr').length === 50")
        await shown.press("p.buttons button:last-child:enabled")
        await shown.page.until("document.querySelectorAll('tbody tr').length === 3")
        await shown.press("p.buttons button:first-child:enabled")
        await shown.page.until("document.querySelectorAll('tbody tr').length === 50")
        await shown.fill("#blueprint", "wide")
        await shown.press("form.filter button")
        await shown.page.until("document.querySelectorAll('tbody tr').length === 1")
        assert await shown.page.run("location.hash") == "#/jobs?blueprint=wide"

        # One is decided by somebody else, and is seen to end.
        await shown.go(f"jobs/{first}")
        await shown.shows(HOSTILE, ".asked")
        await decided(node, first, "no")
        await shown.shows("failed", "dl")
        await shown.shows("approval resolved", ".timeline")
        await shown.page.until("!document.querySelector('.question')")

        # One is decided here: a mistake is told, and what was typed is there to be mended.
        await shown.go(f"jobs/{second}")
        await shown.page.until("document.querySelector('.question')")
        # What it carries is asked for when it is unfolded.
        assert not any("initial_data" in url or "state_history" in url for url in shown.page.asked_for)
        for part, texts in (("first", (HOSTILE.replace('"', '\\"'), f'"large": {LARGE}')), ("last", ("{}",))):
            await shown.press(f"#carried ~ details:{part}-of-type > summary")
            for text in texts:
                await shown.shows(text, f"#carried ~ details:{part}-of-type pre")
        await shown.press(".question input[value=yes]")
        await shown.fill("#data", "[1]")
        await shown.press(".question > button")
        await shown.shows("data", ".question [role=alert]")
        await shown.fill("#data", f'{{"n": {LARGE - 1}}}')
        await shown.press(".question > button")
        await shown.shows("finished", "dl")
        # Every digit, both ways.
        for text in (HOSTILE.replace('"', '\\"'), f'"large": {LARGE}', f'"n": {LARGE - 1}'):
            await shown.shows(text, "pre")
        # What is unfolded goes on with the job.
        await shown.shows(f'"n": {LARGE - 1}', "#carried ~ details:last-of-type pre")

        await shown.go(f"jobs/{third}")
        await shown.shows("nobody-has-this", ".tree")
        for place in (".timeline", ".tree"):
            count = f"document.querySelectorAll('{place} li').length"
            await shown.page.until(f"{count} === {PAGE}")
            await shown.press(f"section:has({place}) > button:not([hidden])")
            await shown.page.until(f"{count} > {PAGE}")
        await shown.press("p.buttons > span > button")
        assert await shown.page.until("document.querySelector('dialog').open")
        assert (await node.client.get(f"/api/v1/jobs/{third}", headers=AUTH)).json()["finished_at"] is None
        await shown.press("dialog button.grave")
        await shown.shows("cancelled", "dl")
        assert (await node.ended(third))["status"] == "cancelled"

        await shown.stays_within_its_policy()
        await shown.press("#leave")
        await shown.page.until("document.querySelector('#token')")
        assert await shown.page.run("sessionStorage.length") == 0
        assert await shown.page.run("document.title") == "Holon: sign in"


async def test_somebody_sends_a_job_the_signals_that_it_waits_for_and_one_that_it_keeps() -> None:
    async with running(more=[awaiting()]) as node, dashboard(f"http://127.0.0.1:{node.door.port}") as shown:
        job_id = await node.created("/api/v1/jobs/awaiting")
        await shown.sign_in(TOKEN)
        await shown.go("jobs?status=waiting_for_signal")
        await shown.shows(job_id, "table")
        await shown.go(f"jobs/{job_id}")
        await shown.shows(HOSTILE, ".question fieldset")
        await shown.page.until("document.querySelector('.question dl time')")
        names = "Array.from(document.querySelectorAll('.question input[type=radio]'), (one) => one.value)"
        assert await shown.page.run(names) == [HOSTILE, "refused", ""]

        # What it does not wait for yet it keeps; a mistake is told, and what was typed is there to be mended.
        await shown.fill("#signal", "early")
        assert await shown.page.run("document.querySelector('input[name=signal][value=\\'\\']').checked")
        await shown.fill("#data", "{")
        await shown.press(".question > button")
        await shown.shows("The data is not valid JSON", ".question [role=alert]")
        await shown.fill("#data", "[1]")
        await shown.press(".question > button")
        await shown.shows("must be a JSON object", ".question [role=alert]")
        await shown.fill("#data", '{"n": [-1e400]}')
        await shown.press(".question > button")
        await shown.shows("infinity", ".question [role=alert]")
        assert await shown.page.run("document.querySelector('#signal').value") == "early"
        await shown.fill("#data", f'{{"n": {LARGE}}}')
        await shown.press(".question > button")
        await shown.shows("Sent: early", ".question [role=status]")
        await shown.shows("Kept signals", "dl")
        assert await shown.page.run("document.querySelector('#data').value") == ""
        job = (await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).json()
        assert (job["status"], job["kept_signals"]) == ("waiting_for_signal", 1)

        # By the one that it waits for it goes on, and takes that which it keeps.
        await shown.press(".question input[type=radio]")
        await shown.press(".question > button")
        await shown.shows("late", ".question fieldset")
        await shown.page.until("!document.querySelector('main').innerText.includes('Kept signals')")
        await shown.press(".question input[value=late]")
        await shown.press(".question > button")
        await shown.shows("finished", "dl")
        await shown.shows(f'"n": {LARGE}', "pre")
        await shown.page.until("!document.querySelector('.question')")
        await shown.stays_within_its_policy()
        # Each sending was one of its own.
        received = (await node.client.get(f"/api/v1/jobs/{job_id}/history", headers=AUTH)).json()["events"]
        keys = [one["context_snapshot"]["request_id"] for one in received if one["event_type"] == "signal_received"]
        assert len({*keys}) == 3


async def test_it_shows_blueprints_workers_skills_and_figures_to_whom_the_node_shows_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as doors, dashboard(str(doors.http.base_url).rstrip("/")) as shown:
        await a_hostile_worker(doors)
        await shown.sign_in(CLIENT_TOKEN)
        await shown.hold(PAUSE)
        await shown.go("workers")
        await shown.shows(f"zone={HOSTILE}", "table")
        await shown.shows("0 of 3", "table")
        await shown.shows("t (1.5)", "table")
        await shown.shows(f"12 % CPU, 3.0 GB of 8.0 GB, {HOSTILE} 97 %", "table")
        await shown.shows("has an object 'properties'", "table")
        for folded in ("loaded by", "machines of"):
            await shown.page.until(f"document.querySelector('[data-key=\"{folded} w1\"]')")
        await what_is_read_stays_while_it_is_renewed(doors, shown)
        await what_fails_reads_as_failed(doors, shown)
        await shown.go("catalog")
        await shown.shows(HOSTILE, "table")
        await shown.go("node")
        await shown.shows("Workers of this node", "dl")
        assert await shown.page.run(RENEWED) == [True, True, True, True]

        graph = (await doors.told("/api/v1/blueprints"))["blueprints"][0]["name"]
        await shown.go(f"blueprints/{graph}")
        dot = (await doors.http.get(f"/api/v1/blueprints/{graph}/graph")).text
        states, ways = dot.count("[shape="), {line.partition(" [")[0] for line in dot.split("\n") if " -> " in line}
        await shown.page.until("document.querySelector('svg.graph')")
        for drawn, count in (("state", states), ("way", len(ways))):
            assert await shown.page.run(f"document.querySelectorAll('svg .{drawn}').length") == count

        # Names and conditions may be of any signs.
        names = ('a "b" \\', "];\n  ", '"x" -> "y"')
        odd = Graph(HOSTILE, (State(names[0], "start", ""), State(names[1], "end", "")), (Edge(*names),))
        read = await shown.page.run(f"import('./dashboard/dot.js').then(({{read}}) => read({json.dumps(odd.dot)}))")
        assert [(one["name"], one["kind"]) for one in read["nodes"]] == [(names[0], "start"), (names[1], "end")]
        assert [tuple(one.values()) for one in read["edges"]] == [names]

        # Somebody without the role is told so, and sees the rest.
        doors.node.known.replace([Entry(Client("shop"), frozenset({digest_of(CLIENT_TOKEN)}))])
        await shown.press("#leave")
        await shown.page.until("document.querySelector('#token')")
        await shown.sign_in(CLIENT_TOKEN)
        for view, text in (
            ("workers", "has no permission for this page"),
            ("catalog", HOSTILE),
            ("node", "has no permission for this page"),
        ):
            await shown.go(view)
            await shown.shows(text)
        # A token that is taken back is asked for again.
        doors.node.known.replace([])
        await shown.go("catalog")
        await shown.shows("no longer accepts this token", "#notice")
        await shown.shows("A client token is HOLON_TOKEN in .holon/dev.toml", "#notice")
        assert await shown.page.run("document.querySelector('#token') && sessionStorage.length") == 0
        await shown.stays_within_its_policy()


async def what_fails_reads_as_failed(doors: Doors, shown: Dashboard) -> None:
    """In the history of its job with code and message, and among the reasons for the reputation of its worker."""
    wire = await doors.node.worker("w3", offering("breaks"), credits=1)
    job_id = await doors.node.create(skill="breaks")
    error = types_pb2.TaskError(code="PERMANENT_ERROR", message=f"card declined {HOSTILE}")
    await wire.send(updates(result(await wire.offer(), status="failure", error=error)))
    await doors.node.ended(job_id)
    await shown.go(f"jobs/{job_id}")
    await shown.shows("task failed", ".timeline")
    await shown.shows(f"PERMANENT_ERROR: card declined {HOSTILE}", ".timeline")
    assert await shown.page.run("!document.querySelector('.timeline').innerText.includes('task finished')")
    await shown.go("workers")
    await shown.shows("breaks 0.9", "table")
    await shown.shows("1 PERMANENT_ERROR, last", "table")


async def what_is_read_stays_while_it_is_renewed(doors: Doors, shown: Dashboard) -> None:
    """As far as it was scrolled and with the focus, beside the same of another worker; and it has a name of its own."""
    wire = await doors.node.stream("w2")
    hi = hello(offering("t"), credits=1)
    hi.hello.catalog.cached.extend(f"model-{n}" for n in range(100))
    await wire.send(hi)
    await wire.expect("welcome")
    await shown.pass_time()
    pres = "document.querySelectorAll('pre[aria-label^=loaded]')"
    await shown.page.until(f"{pres}.length === 2")
    await shown.page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    await shown.page.run(f"window.first = {pres}[0], window.first.focus(), {pres}[1].scrollTop = 200")
    await wire.beat(load=worker_pb2.WorkerLoad(cpu_percent=1.0))
    await shown.pass_time()
    await shown.page.until("!window.first.isConnected")
    kept = f"[document.activeElement === {pres}[0], {pres}[1].scrollTop, {pres}[1].ariaLabel]"
    assert await shown.page.run(kept) == [True, 200, "loaded by w2"]


async def a_hostile_worker(doors: Doors) -> None:
    wire = await doors.node.stream("w1")
    schema = types_pb2.Payload(data=b'{"type":"object"}')
    hi = hello(
        offering("t", description=HOSTILE, input_schema=schema, price=1_500_000),
        credits=3,
        labels={"zone": HOSTILE},
        sdk=worker_pb2.SdkInfo(name=HOSTILE, version="1.0", runtime="none"),
    )
    hi.hello.catalog.cached.append(HOSTILE)
    hi.hello.catalog.profiles.add().resources.properties.data = b'{"properties":{}}'
    await wire.send(hi)
    await wire.expect("welcome")
    load = worker_pb2.WorkerLoad(cpu_percent=12.4, memory_used_bytes=3 * 10**9, memory_total_bytes=8 * 10**9)
    load.devices.add(device_id=HOSTILE, percent=97.0)
    await wire.beat(load=load)
