"""What is of the node, and what others' jobs are, is for administrators."""

from __future__ import annotations

import logging

import pytest

from holon.client import Client
from holon.domain import paths
from holon.errors import NotFound, PermissionDenied
from holon.rxon.v1 import job_pb2, node_pb2
from holon.transports.grpc.node_service import OF_ADMINS
from tests.audit_lines import audit
from tests.integration.access.place import BOSS, GUARD, LAB, SHOP, Place


async def test_what_is_of_the_node_needs_the_role_of_administrators(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    requests = {
        "ListWorkers": node_pb2.ListWorkersRequest(),
        "GetStats": node_pb2.GetStatsRequest(),
        "ReloadNode": node_pb2.ReloadNodeRequest(),
        "DrainNode": node_pb2.DrainNodeRequest(),
        "DrainWorker": node_pb2.DrainWorkerRequest(worker_id="w1"),
        "GetWebhookSecret": node_pb2.GetWebhookSecretRequest(),
        "AcceptHolon": node_pb2.AcceptHolonRequest(worker_id="w1"),
        "RotateTokens": node_pb2.RotateTokensRequest(secret=node_pb2.TOKEN_SECRET_SIGNING_KEY),
    }
    assert requests.keys() == set(OF_ADMINS)
    async with place.client(SHOP) as shop, place.client(BOSS) as boss:
        for name, request in requests.items():
            call = getattr(shop.node._stub, name)
            with pytest.raises(PermissionDenied) as caught:
                await shop.node._calls.call(call, request)
            assert caught.value.code == "PERMISSION_DENIED"
        assert [one["who"] for one in audit(caplog, "call_refused")] == ["shop"] * len(requests)
        assert [one async for one in boss.node.list_workers()] == []
        assert (await boss.node.stats()).workers_connected == 0
        assert await boss.node.reload() == ("clients", "tls")
        # Blueprints and skills are for every client.
        assert len([one async for one in shop.node.list_blueprints()]) == 4
        assert [one async for one in shop.node.list_skills()] == []


async def test_only_administrators_list_the_jobs_of_others_and_only_by_name(place: Place) -> None:
    job_id = await place.create(SHOP)
    async with place.client(LAB) as lab, place.client(BOSS) as boss:
        asked = job_pb2.ListJobsRequest(owner="shop")
        with pytest.raises(PermissionDenied):
            await lab._calls.call(lab._stub.ListJobs, asked)
        page = await boss._calls.call(boss._stub.ListJobs, asked)
        assert [job.id for job in page.jobs] == [job_id]
        with pytest.raises(NotFound):
            await boss.get_job(job_id)


async def test_an_administrators_list_of_others_jobs_tells_nothing_that_is_in_them(place: Place) -> None:
    async with place.client(SHOP) as shop, place.client(BOSS) as boss:

        async def listed(client: Client, *fields: str) -> list[job_pb2.Job]:
            asked = job_pb2.ListJobsRequest(owner="shop", fields=fields)
            return list((await client._calls.call(client._stub.ListJobs, asked)).jobs)

        for blueprint in ("asking", "failing"):
            await shop.wait_for((await shop.create_job(blueprint, {"card": "4711"})).job_id, timeout=GUARD)
        await shop.create_job("waiting")
        secrets = ("result", "error", "progress_message", "initial_data", "state_history")
        waiting, failed, finished = await listed(shop, "id", *secrets)
        assert waiting.progress_message
        assert "4711" in failed.error.message
        assert b"gold" in finished.result.data
        assert (failed.initial_data.data, failed.state_history.data) == (b'{"card":"4711"}', b"{}")

        shown = await listed(boss)
        assert [(job.id, job.owner) for job in shown] == [(job.id, "shop") for job in (waiting, failed, finished)]
        assert [job.status for job in shown] == ["waiting_for_worker", "quarantined", "finished"]
        for job in shown:
            assert not {field.name for field, _ in job.ListFields()} & {*secrets}
        for secret in secrets:
            with pytest.raises(PermissionDenied, match=f"^fields: {secret} of a job is only for its owner"):
                await listed(boss, "id", secret)
        assert [job.status for job in await listed(boss, "status")] == [job.status for job in shown]
        # Its owner is shown all but the results, unasked.
        assert (await listed(shop))[1].error == failed.error


async def test_admin_routes_refuse_others_before_anything_of_the_body_is_read(place: Place) -> None:
    for path in (paths.RELOAD, paths.RELOAD_WORKERS):
        reply = await place.ask(SHOP, "POST", path, content=b"no json")
        assert (reply.status_code, reply.json()["code"]) == (403, "PERMISSION_DENIED")


async def test_what_is_of_the_node_needs_the_same_role_over_http(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    await place.create(SHOP)
    for path, told in ((paths.WORKERS, "workers"), (paths.DASHBOARD, "jobs")):
        # Before anything of it is read, and whatever else is wrong.
        for query in ("", "?page_size=0"):
            reply = await place.ask(SHOP, "GET", f"{path}{query}")
            assert (reply.status_code, reply.json()["code"]) == (403, "PERMISSION_DENIED")
        reply = await place.ask(BOSS, "GET", path)
        assert (reply.status_code, told in reply.json()) == (200, True)
    assert (await place.ask(BOSS, "GET", paths.DASHBOARD)).json()["jobs"] == {"waiting_for_worker": 1}
    refused = [(one["who"], one["via"], one["on"]) for one in audit(caplog, "call_refused")]
    assert refused == [("shop", "http", f"GET {path}") for path in (paths.WORKERS, paths.DASHBOARD) for _ in range(2)]
    # Blueprints and skills are for every client.
    for path in (paths.BLUEPRINTS, paths.BLUEPRINT_GRAPH.format(name="waiting"), paths.CATALOG):
        assert (await place.ask(LAB, "GET", path)).status_code == 200
