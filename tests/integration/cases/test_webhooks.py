"""Acceptance: whoever a job names is told of its end, whatever it is, once; at both doors of clients."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holon import Blueprint
from holon.client import CreatedJob, JobRequest
from holon.context import ActionFactory, JobContext
from holon.errors import AlreadyExists, FailedPrecondition, HolonError, InvalidArgument
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import (
    SUCCESS_ONLY,
    Start,
    a_wire,
    create,
    ended,
    failure,
    http,
    next_offer,
    one_task,
    waits,
)
from tests.integration.grpc_node import json_payload, result, updates
from tests.integration.test_worker_events import event, tells
from tests.receiver import Receiver, receiving
from tests.redis_server import RedisServer

SECRET = b"s" * 8 + bytes(range(24))
HOOKS: dict[str, Any] = {
    "WEBHOOK_SECRET": f"whsec_{b64encode(SECRET).decode()}",
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
}
CREATE = "/api/v1/jobs/told"


def told() -> Blueprint:
    """Ends with what its `initial_data` says, and says who is told."""
    bp = Blueprint("told", api_endpoint="/jobs/told", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        if initial_data.get("raises"):
            raise RuntimeError("no luck")
        actions.go_to(initial_data.get("state", "finished"))

    @bp.handler(is_end=True)
    async def finished(initial_data: dict[str, Any], webhook_url: str | None, context: JobContext) -> dict[str, Any]:
        return {"n": initial_data.get("n"), "told": [webhook_url, context.webhook_url]}

    @bp.handler(is_end=True)
    async def failed() -> dict[str, Any]:
        return {"why": "so"}

    return bp


@pytest.fixture
async def it() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def test_whoever_is_named_is_told_of_the_end_by_a_signed_post(start: Start, it: Receiver) -> None:
    async with start(told(), **HOOKS) as node, http(node) as door:
        reply = await door.post(CREATE, json={"initial_data": {"n": 5}, "webhook_url": it.url})
        job_id = reply.json()["job_id"]
        (one,) = await it.has(1)
        assert one.json == {
            "event": "job_finished",
            "job_id": job_id,
            "status": "finished",
            "result": {"n": 5, "told": [it.url, it.url]},
            "error": None,
        }
        text = f"end_{job_id}.{one.headers['webhook-timestamp']}.".encode() + one.body
        assert one.headers["webhook-id"] == f"end_{job_id}"
        version, _, signature = one.headers["webhook-signature"].partition(",")
        assert (version, b64decode(signature)) == ("v1", hmac.digest(SECRET, text, "sha256"))
        # Nobody is shown where that is.
        job = (await door.get(f"/api/v1/jobs/{job_id}?fields=id,status,error,current_state")).text
        lists = (await door.get("/api/v1/jobs")).text
        history = (await door.get(f"/api/v1/jobs/{job_id}/history")).text
        assert "secret-of-the-path" not in job + lists + history
    assert len(it.told) == 1


async def test_every_end_is_told_and_each_once(start: Start, it: Receiver) -> None:
    slow = one_task(SUCCESS_ONLY, name="slow")
    lost = one_task(SUCCESS_ONLY, name="lost", skill="nobody")
    async with start(told(), slow, lost, JOB_MAX_RETRIES=0, **HOOKS) as node, a_wire(node, "w1") as wire:
        named = {"webhook_url": it.url}
        wanted = {
            await create(node, "told", {"n": 1}, **named): "finished",
            await create(node, "told", {"state": "failed"}, **named): "failed",
            await create(node, "told", {"raises": True}, **named): "quarantined",
            await create(node, "lost", {}, dispatch_timeout=0.2, **named): "failed",
        }
        cancelled = await create(node, "lost", {}, **named)
        await node.client.cancel_job(cancelled)
        wanted[cancelled] = "cancelled"
        for code, status in (("PERMANENT_ERROR", "quarantined"), ("INVALID_INPUT_ERROR", "failed"), (None, "finished")):
            job_id = await create(node, "slow", {}, **named)
            offer = await next_offer(wire)
            await wire.send(updates(result(offer, **(failure(code) if code else {}))))
            wanted[job_id] = status
        silent = await create(node, "told", {"n": 2})
        await ended(node, silent)
        all_told = await it.has(len(wanted))
        assert {one.json["job_id"]: one.json["status"] for one in all_told} == wanted
        for one in all_told:
            said = one.json
            job = await node.client.get_job(said["job_id"])
            assert (said["event"], said["status"]) == (f"job_{job.status}", job.status)
            assert said["result"] == (job.result if job.status == "finished" else None)
            shown = None if job.error is None else (job.error.code, job.error.message, job.error.details)
            assert (said["error"] and tuple(said["error"][key] for key in ("code", "message", "details"))) == shown
    assert len(it.told) == len(wanted)


async def test_the_same_request_is_the_same_job_and_told_once_and_another_receiver_is_another_request(
    start: Start, it: Receiver
) -> None:
    async with start(told(), **HOOKS) as node, http(node) as door:
        body = {"initial_data": {"n": 1}, "webhook_url": it.url}
        first = [await door.post(CREATE, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        again = await node.client.create_job("told", {"n": 1}, request_id="k", webhook_url=it.url)
        assert {one.json()["job_id"] for one in first} == {again.job_id}
        assert again.existing
        for other in ({"initial_data": {"n": 1}}, body | {"webhook_url": f"{it.url}&x=1"}):
            reply = await door.post(CREATE, json=other, headers={"Idempotency-Key": "k"})
            assert (reply.status_code, reply.json()["code"]) == (409, "REQUEST_ID_REUSED")
        with pytest.raises(AlreadyExists):
            await node.client.create_job("told", {"n": 1}, request_id="k")
        last = await create(node, "told", {"n": 2}, webhook_url=it.url)
        assert sorted(one.json["job_id"] for one in await it.has(2)) == sorted([again.job_id, last])


async def test_many_jobs_of_one_call_are_told_of_each(start: Start, it: Receiver) -> None:
    async with start(told(), **HOOKS) as node:
        asked = [JobRequest("told", {"n": n}, webhook_url=it.url if n % 2 else None) for n in range(60)]
        asked.append(JobRequest("told", {}, webhook_url="https://10.0.0.1/"))
        made = await node.client.create_jobs(asked)
        refused = made.pop()
        assert isinstance(refused, InvalidArgument)
        ids = [one.job_id for one in made if isinstance(one, CreatedJob)]
        assert sorted(one.json["result"]["n"] for one in await it.has(30)) == list(range(1, 60, 2))
        for job_id in ids:
            await ended(node, job_id)
    assert len(it.told) == len({one.headers["webhook-id"] for one in it.told}) == 30


async def refusal(node: RunningNode, **options: Any) -> HolonError:
    with pytest.raises(InvalidArgument) as error:
        await node.client.create_job("told", {}, **options)
    return error.value


async def test_who_may_not_be_told_is_refused_by_its_field_at_both_doors(start: Start) -> None:
    async with start(told(), **HOOKS) as node, http(node) as door:
        for url in (
            "http://example.com/",
            "https://10.0.0.1/",
            "https://x:y@example.com/",
            "nonsense",
            "https://[::1]/",
        ):
            reply = await door.post(CREATE, json={"webhook_url": url})
            error = await refusal(node, webhook_url=url)
            said = reply.json()
            assert (reply.status_code, said["code"], error.code) == (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
            assert said["error"] == error.message
            assert [one["field"] for one in said["details"]] == [one.field for one in error.details] == ["webhook_url"]
        for wrong in (5, "", ["https://example.com/"]):
            reply = await door.post(CREATE, json={"webhook_url": wrong})
            assert (reply.status_code, reply.json()["details"][0]["field"]) == (400, "webhook_url")
        assert (await refusal(node, webhook_url="")).details[0].field == "webhook_url"
        assert (await door.post(CREATE, json={"webhook_url": None})).status_code == 202
        assert len([job async for job in node.client.list_jobs()]) == 1


async def test_the_document_of_the_door_says_what_an_address_is(start: Start, it: Receiver) -> None:
    async with start(told(), **HOOKS) as node, http(node) as door:
        described = (await door.get("/_public/openapi.json")).json()["paths"][CREATE]["post"]
        schema = described["requestBody"]["content"]["application/json"]["schema"]["properties"]["webhook_url"]
        assert schema["type"] == ["string", "null"]
        for url in (it.url, "https://example.com/x", "HTTPS://example.com"):
            assert re.search(schema["pattern"], url)


async def test_without_the_setting_a_secret_of_the_store_signs_at_every_node_and_run(
    redis: RedisServer, tmp_path: Path, it: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    allowed: dict[str, Any] = {"WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}
    secrets = []
    for uri in (f"sqlite:///{tmp_path / 'holon.db'}", f"{redis.uri(redis.database())}"):
        for _ in range(2):
            async with running_node(told(), STORAGE_URI=uri, **allowed) as node:
                job_id = await create(node, "told", {}, webhook_url=it.url)
                secrets.append(await node.client.node.webhook_secret())
                one = (await it.has(len(secrets)))[-1]
                assert one.json["job_id"] == job_id
                text = f"end_{job_id}.{one.headers['webhook-timestamp']}.".encode() + one.body
                mac = hmac.digest(b64decode(secrets[-1].removeprefix("whsec_")), text, "sha256")
                assert one.headers["webhook-signature"] == f"v1,{b64encode(mac).decode()}"
    assert (len({*secrets[:2]}), len({*secrets[2:]}), len({*secrets})) == (1, 1, 2)
    uri = f"{redis.uri(redis.database())}"
    async with (
        running_node(told(), STORAGE_URI=uri, **allowed) as node,
        running_node(told(), STORAGE_URI=uri, **allowed) as other,
    ):
        assert await node.client.node.webhook_secret() == await other.client.node.webhook_secret()
    assert "`holon webhooks secret` shows it" in caplog.text
    assert not any(secret.removeprefix("whsec_") in caplog.text for secret in secrets)


async def test_the_secret_of_the_setting_wins_and_is_not_shown(start: Start) -> None:
    async with start(told(), **HOOKS) as node:
        with pytest.raises(FailedPrecondition, match="WEBHOOK_SECRET") as error:
            await node.client.node.webhook_secret()
        assert error.value.code == "WEBHOOK_SECRET_SET"


async def test_a_job_without_a_receiver_says_so_to_its_handlers(start: Start) -> None:
    async with start(told(), **HOOKS) as node:
        job = await node.run("told", {"n": 1})
        assert job.result == {"n": 1, "told": [None, None]}


async def test_what_is_told_and_given_up_is_shown_in_figures(start: Start, it: Receiver) -> None:
    it.answers.append(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
    async with start(told(), **HOOKS) as node, http(node) as door:
        for n in range(2):
            await create(node, "told", {"n": n}, webhook_url=it.url)
            await it.has(n + 1)
        wanted = {'holon_webhooks_total{outcome="told"} 1.0', 'holon_webhooks_total{outcome="given_up"} 1.0'}
        wanted |= {'holon_webhook_tries_total{outcome="gone"} 1.0', "holon_webhook_delay_seconds_count 1.0"}
        while not wanted <= set((await door.get("/_public/metrics")).text.splitlines()):
            pass


def watched() -> Blueprint:
    """Tells that it begins, has a task done, and tells with its end what came of it."""
    bp = Blueprint("watched", api_endpoint="/jobs/watched", api_version="v1")
    bp.event("begun", {"type": "object", "required": ["n"]})
    bp.event("over")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.send_event("begun", initial_data)
        actions.dispatch_task("t", {}, {"success": "done"})

    @bp.handler(is_end=True)
    async def done(actions: ActionFactory) -> None:
        actions.send_event("over")

    return bp


async def test_c34_events_of_blueprints_and_workers_are_told_each_once_under_an_id_of_its_own_and_in_order(
    start: Start, it: Receiver
) -> None:
    async with start(watched(), **HOOKS) as node, a_wire(node, "w1") as wire, http(node) as door:
        refused = await create(node, "watched", {}, webhook_url=it.url)
        silent = await create(node, "watched", {"n": 0})
        job_id = await create(node, "watched", {"n": 1}, webhook_url=it.url)
        offers = [await next_offer(wire) for _ in range(2)]
        [offer] = [one for one in offers if one.job_id == job_id]
        assert not (await tells(wire, event(offer, payload=json_payload({"at": 13}))))[0].HasField("error")
        # Its answer was lost: it comes again.
        await tells(wire, event(offer))
        for each in offers:
            await wire.send(updates(result(each)))
        told = [one for one in await it.has(5) if one.json["job_id"] == job_id]
        events = [one for one in told if one.headers["webhook-id"].startswith("event_")]
        history = (await door.get(f"/api/v1/jobs/{job_id}/history")).json()["events"]
        lines = [one for one in history if one["event_type"].startswith(("worker_event:", "blueprint_event:"))]
        assert [one.json["event"] for one in events] == [
            "blueprint_event:begun",
            "worker_event:seen",
            "blueprint_event:over",
        ]
        for one, line in zip(events, lines, strict=True):
            assert one.headers["webhook-id"] == f"event_{job_id}-{line['sequence']}"
            assert one.json == {"event": line["event_type"]} | {
                name: line[name]
                for name in ("job_id", "sequence", "timestamp", "state", "worker_id", "task_id", "context_snapshot")
            }
        assert [events[0].json["context_snapshot"], events[1].json["worker_id"]] == [{"payload": {"n": 1}}, "w1"]
        assert events[1].json["context_snapshot"]["payload"] == {"at": 13}
        text = f"{events[1].headers['webhook-id']}.{events[1].headers['webhook-timestamp']}.".encode() + events[1].body
        signature = events[1].headers["webhook-signature"].removeprefix("v1,")
        assert b64decode(signature) == hmac.digest(SECRET, text, "sha256")
        # One that is not as declared is reported, and told to nobody.
        failed = await node.client.get_job(refused)
        assert failed.error is not None
        assert failed.error.code == "EVENT_INVALID"
        assert {one.json["job_id"] for one in it.told} == {job_id, refused}
        assert (await ended(node, silent)).status == "finished"
    assert len(it.told) == 5


async def test_jobs_that_wait_are_told_of_once_they_are_over(start: Start, it: Receiver) -> None:
    async with start(one_task(SUCCESS_ONLY), **HOOKS) as node:
        job_id = await create(node, "one_task", {}, webhook_url=it.url)
        await waits(node, job_id)
        assert not it.told
        async with a_wire(node, "w1") as wire:
            await wire.send(updates(result(await next_offer(wire), data={"n": 7})))
            (one,) = await it.has(1)
    assert orjson.loads(one.body)["job_id"] == job_id
