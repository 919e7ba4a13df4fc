"""Who may decide what a job asks: its owner, and who has the token of that question."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from holon.client import Approval
from holon.errors import NotFound, PermissionDenied, Unauthenticated
from tests.audit_lines import audit
from tests.integration.access.place import BOSS, FILE, GUARD, LAB, SHOP, Place, a_place

ROUTE = "/_public/webhooks/approval"


async def asked(place: Place, job_id: str) -> Approval:
    async with asyncio.timeout(GUARD), place.client(SHOP) as shop:
        while (question := (await shop.get_job(job_id)).approval) is None:
            pass
        return question


async def test_i5_nobody_decides_of_a_foreign_job_and_it_looks_like_none(place: Place) -> None:
    job_id = await place.create(SHOP, "approving")
    await asked(place, job_id)
    for token in (LAB, BOSS):
        foreign = await place.ask(token, "POST", f"{ROUTE}/{job_id}", json={"decision": "yes"})
        unknown = await place.ask(token, "POST", f"{ROUTE}/0-none", json={"decision": "yes"})
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.text.replace(job_id, "0-none") == unknown.text
        async with place.client(token) as client:
            for which in (job_id, "0-none"):
                with pytest.raises(NotFound) as caught:
                    await client.resolve_approval(which, "yes")
                assert caught.value.code == "JOB_NOT_FOUND"
    assert (await asked(place, job_id)).decisions == ("yes",)


async def test_an_administrator_sees_that_a_foreign_job_asks_and_not_what(place: Place) -> None:
    job_id = await place.create(SHOP, "approving")
    await asked(place, job_id)
    async with place.client(BOSS) as boss:
        from holon.rxon.v1 import job_pb2

        page = await boss._stub.ListJobs(job_pb2.ListJobsRequest(owner="shop"), metadata=boss._calls.metadata)
        assert [(job.status, job.HasField("approval")) for job in page.jobs] == [("waiting_for_human", False)]
        with pytest.raises(PermissionDenied):
            await boss._calls.call(boss._stub.ListJobs, job_pb2.ListJobsRequest(owner="shop", fields=["approval"]))


async def test_an_approval_token_gives_one_right_and_is_good_as_long_as_the_token_it_was_made_of(
    place: Place,
) -> None:
    first, second = await place.create(SHOP, "approving"), await place.create(SHOP, "approving")
    token = (await asked(place, first)).approval_token
    async with place.client(LAB) as lab:
        with pytest.raises(Unauthenticated) as foreign:
            await lab.resolve_approval(second, "yes", approval_token=token)
        with pytest.raises(Unauthenticated) as unknown:
            await lab.resolve_approval("0-none", "yes", approval_token=token)
        assert foreign.value.message == unknown.value.message
        other = (await asked(place, second)).approval_id
        with pytest.raises(Unauthenticated, match="another job or approval"):
            await lab.resolve_approval(first, "yes", approval_token=token, approval_id=other)
        with pytest.raises(NotFound):
            await lab.get_job(first)
        await lab.resolve_approval(first, "yes", approval_token=token)

        token = (await asked(place, second)).approval_token
        place.file.write_text(FILE.replace(SHOP, f"another-{SHOP}"))
        await place.ask(BOSS, "POST", "/api/v1/admin/reload")
        with pytest.raises(Unauthenticated):
            await lab.resolve_approval(second, "yes", approval_token=token)


async def test_an_approval_token_is_nowhere_in_the_store(tmp_path: Path) -> None:
    async with a_place(tmp_path, STORAGE_URI=f"sqlite:///{tmp_path}/holon.db") as place:
        job_id = await place.create(SHOP, "approving")
        token = (await asked(place, job_id)).approval_token
        mac = token.rpartition(".")[2].encode()
        kept = await asyncio.to_thread(lambda: b"".join(one.read_bytes() for one in tmp_path.glob("holon.db*")))
        assert b"a secret of the shop" in kept
        assert mac not in kept


async def test_decisions_are_told_in_the_audit_log_and_so_is_who_was_refused(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    first, second = await place.create(SHOP, "approving"), await place.create(SHOP, "approving")
    token = (await asked(place, first)).approval_token
    await asked(place, second)
    await place.ask(LAB, "POST", f"{ROUTE}/{second}", json={"decision": "yes"})
    await place.ask(SHOP, "POST", f"{ROUTE}/{second}", json={"decision": "yes"})
    await place.http.post(f"{ROUTE}/{first}", json={"decision": "yes", "approval_token": "nonsense"})
    await place.http.post(f"{ROUTE}/{first}", json={"decision": "yes"})
    await place.http.post(f"{ROUTE}/{first}", json={"decision": "yes", "approval_token": token})
    told = [(one.get("who"), one["on"], one["result"], one.get("right")) for one in audit(caplog, "approval_resolved")]
    assert told == [
        ("lab", second, "JOB_NOT_FOUND", None),
        ("shop", second, "ok", None),
        (None, first, "ok", "holder of the approval token"),
    ]
    refused = [(one["on"], one["result"]) for one in audit(caplog, "call_refused")]
    assert refused == [(f"POST {ROUTE}/{first}", "TOKEN_INVALID")] * 2
    assert token not in caplog.text
