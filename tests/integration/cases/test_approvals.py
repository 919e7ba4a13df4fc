"""Acceptance: a job asks a person, and goes on by what is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from holon import Blueprint
from holon.client import Approval, Job
from holon.clock import ManualClock
from holon.context import ActionFactory
from holon.domain.events import ApprovalResolved, InboxEvent
from holon.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from holon.ports import Appended
from holon.storage.memory import MemoryStorage
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import Start, create, ended, history, http, seen, waits

ROUTE = "/_public/webhooks/approval"
ASKED = "Publish\n  3 pages?"


def asking(more_ways: Mapping[str, str] | None = None, **options: Any) -> Blueprint:
    """Asks, and again after `more`.

    Arguments:
        options: more for `await_human_approval`.
    """
    bp = Blueprint("asking", api_endpoint="/jobs/asking", api_version="v1")
    ways = {"yes": "publish", "no": "discard", "more": "start", **(more_ways or {})}

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", ASKED, ways, **options)

    @bp.handler(is_end=True)
    async def publish(state_history: dict[str, Any]) -> Any:
        return {"published": True} | state_history

    @bp.handler(is_end=True)
    async def discard() -> Any:
        return {"published": False}

    @bp.handler(is_end=True)
    async def tidy(state_history: dict[str, Any]) -> Any:
        return state_history

    return bp


async def asked(node: RunningNode, job_id: str) -> Approval:
    """What the job asks, once it does."""
    job = await waits(node, job_id, "waiting_for_human")
    assert job.approval is not None
    return job.approval


async def test_d12_a_job_says_what_it_asks_and_goes_on_by_what_is_decided(start: Start) -> None:
    async with start(asking()) as node, http(node) as door:
        job_id = await create(node, "asking", {})
        question = await asked(node, job_id)
        assert (question.message, question.integration) == (ASKED, "chat")
        assert (question.decisions, question.expires_at) == (("yes", "no", "more"), None)
        seen = (await door.get(f"/api/v1/jobs/{job_id}")).json()
        assert seen["progress_message"] == "waiting for a decision (yes, no, more): Publish 3 pages?"
        assert seen["approval"] == {
            "approval_id": question.approval_id,
            "message": ASKED,
            "integration": "chat",
            "decisions": ["yes", "no", "more"],
            "requested_at": question.requested_at,
            "expires_at": None,
            "approval_token": question.approval_token,
        }
        (listed,) = (await door.get("/api/v1/jobs", params={"status": "waiting_for_human"})).json()["jobs"]
        assert "approval_token" not in listed.pop("approval")
        assert [job.id async for job in node.client.list_jobs(statuses=["waiting_for_human"])] == [job_id]
        stats = await node.client.node.stats()
        assert stats.jobs["waiting_for_human"] == 1

        await node.client.resolve_approval(job_id, "yes", data={"by": "eve"}, comment="looks fine")
        job = await ended(node, job_id)
        assert (job.status, job.result, job.approval) == ("finished", {"published": True, "by": "eve"}, None)
        requested, resolved = await history(node, job_id, "approval_requested", "approval_resolved")
        assert requested.context_snapshot["approval_id"] == resolved.context_snapshot["approval_id"]
        assert (resolved.context_snapshot["decision"], resolved.context_snapshot["by"]) == ("yes", "default")
        assert (resolved.context_snapshot["comment"], resolved.next_state) == ("looks fine", "publish")


async def test_d12_the_owner_decides_over_http(start: Start) -> None:
    async with start(asking()) as node, http(node) as door:
        job_id = await create(node, "asking", {})
        await asked(node, job_id)
        reply = await door.post(f"{ROUTE}/{job_id}", json={"decision": "no"})
        assert (reply.status_code, reply.json()) == (200, {"status": "approval_received", "job_id": job_id})
        assert (await ended(node, job_id)).result == {"published": False}


async def test_d12_one_question_is_answered_once_whoever_asks_at_the_same_time(start: Start) -> None:
    async with start(asking()) as node:
        job_id = await create(node, "asking", {})
        question = (await asked(node, job_id)).approval_id
        given = [("yes", question), ("no", question)] * 10
        told = await asyncio.gather(
            *(node.client.resolve_approval(job_id, word, approval_id=which) for word, which in given),
            return_exceptions=True,
        )
        (won,) = [word for (word, _), one in zip(given, told, strict=True) if isinstance(one, Job)]
        lost = [one for one in told if not isinstance(one, Job)]
        assert {type(one) for one in lost} == {FailedPrecondition}
        assert {one.code for one in lost if isinstance(one, FailedPrecondition)} == {"APPROVAL_NOT_OPEN"}
        job = await ended(node, job_id)
        assert job.current_state == {"yes": "publish", "no": "discard"}[won]
        assert len(await history(node, job_id, "approval_resolved")) == 1


async def test_d13_what_cannot_be_decided_is_refused_and_the_question_stays(start: Start) -> None:
    async with start(asking()) as node, http(node) as door:
        job_id = await create(node, "asking", {})
        question = await asked(node, job_id)

        async def refused(body: Any, job: str = job_id) -> tuple[int, str, str]:
            reply = await door.post(f"{ROUTE}/{job}", json=body)
            return reply.status_code, reply.json()["code"], reply.json()["error"]

        status, code, text = await refused({"decision": "maybe"})
        assert (status, code) == (400, "INVALID_ARGUMENT")
        assert "use yes or no or more" in text
        assert (await refused({}))[:2] == (400, "INVALID_ARGUMENT")
        assert (await refused({"decision": 1}))[:2] == (400, "INVALID_ARGUMENT")
        assert (await refused({"decision": "yes", "data": []}))[:2] == (400, "INVALID_ARGUMENT")
        assert (await refused({"decision": "yes", "comment": "x" * 4_097}))[:2] == (400, "INVALID_ARGUMENT")
        assert (await refused({"decision": "yes", "nonsense": 1}))[:2] == (400, "INVALID_ARGUMENT")
        assert (await refused({"decision": "yes", "approval_id": "0-x-1"}))[:2] == (409, "APPROVAL_NOT_OPEN")
        assert (await refused({"decision": "yes"}, "0-none"))[:2] == (404, "JOB_NOT_FOUND")
        for error, job, given in (
            (InvalidArgument, job_id, {"decision": "timeout"}),
            (InvalidArgument, job_id, {"decision": ""}),
            (NotFound, "0-none", {"decision": "yes"}),
        ):
            with pytest.raises(error):
                await node.client.resolve_approval(job, **given)
        assert (await asked(node, job_id)).approval_id == question.approval_id


async def test_d13_a_job_that_asks_nothing_takes_no_decision(start: Start) -> None:
    async with start(asking()) as node, http(node) as door:
        job_id = await create(node, "asking", {})
        await asked(node, job_id)
        await node.client.resolve_approval(job_id, "yes")
        await ended(node, job_id)
        with pytest.raises(FailedPrecondition, match="has no open approval: it is finished") as caught:
            await node.client.resolve_approval(job_id, "yes")
        assert caught.value.code == "APPROVAL_NOT_OPEN"
        reply = await door.post(f"{ROUTE}/{job_id}", json={"decision": "yes"})
        assert (reply.status_code, reply.json()["code"]) == (409, "APPROVAL_NOT_OPEN")


async def test_a_repeat_of_a_decision_is_answered_as_the_first_and_decides_nothing_else(start: Start) -> None:
    async with start(asking()) as node, http(node) as door:
        job_id = await create(node, "asking", {})
        first = await asked(node, job_id)
        await node.client.resolve_approval(job_id, "more", request_id="r1")
        while (second := await asked(node, job_id)).approval_id == first.approval_id:
            pass
        # Its answer may have been lost: the next question is not the one that it meant.
        await node.client.resolve_approval(job_id, "more", request_id="r1")
        assert (await asked(node, job_id)).approval_id == second.approval_id
        with pytest.raises(AlreadyExists) as caught:
            await node.client.resolve_approval(job_id, "no", request_id="r1")
        assert caught.value.code == "REQUEST_ID_REUSED"

        key = {"Idempotency-Key": "r2"}
        for _ in range(2):
            reply = await door.post(f"{ROUTE}/{job_id}", json={"decision": "yes"}, headers=key)
            assert reply.status_code == 200
            job = await ended(node, job_id)
        assert (job.status, len(await history(node, job_id, "approval_resolved"))) == ("finished", 2)
        with pytest.raises(FailedPrecondition):
            await node.client.resolve_approval(job_id, "yes", request_id="r3")


async def test_what_is_refused_or_a_repeat_reads_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_node(asking(), STORAGE_URI="memory://") as node:
        job_id = await create(node, "asking", {})
        await asked(node, job_id)
        await node.client.send_signal(job_id, "rung", request_id="r1")
        await seen(node, job_id, lambda job: job.kept_signals)
        await node.client.resolve_approval(job_id, "yes", request_id="r1")
        await ended(node, job_id)
        monkeypatch.setattr(MemoryStorage, "history", None)
        for _ in range(2):
            await node.client.send_signal(job_id, "rung", request_id="r1")
            await node.client.resolve_approval(job_id, "yes", request_id="r1")
        for send, word in ((node.client.send_signal, "rung"), (node.client.resolve_approval, "yes")):
            with pytest.raises(FailedPrecondition):
                await send(job_id, word, request_id="r2")
            with pytest.raises(AlreadyExists) as reused:
                await send(job_id, "another", request_id="r1")
            assert reused.value.code == "REQUEST_ID_REUSED"


async def test_d14_nobody_decides_without_a_token(start: Start) -> None:
    async with start(asking()) as node, http(node, nothing="x") as nobody:
        job_id = await create(node, "asking", {})
        token = (await asked(node, job_id)).approval_token
        other = await create(node, "asking", {})
        elsewhere = (await asked(node, other)).approval_token
        wrong = ("", "nonsense", f"{token}x", token[:-1], token.upper(), elsewhere, f".{token.rpartition('.')[2]}", "é")
        for given in wrong:
            reply = await nobody.post(f"{ROUTE}/{job_id}", json={"decision": "yes", "approval_token": given})
            assert (reply.status_code, reply.json()["code"]) == (401, "TOKEN_INVALID"), given
        # Its right is to one question, and no other.
        named = {"decision": "yes", "approval_token": token, "approval_id": "another"}
        reply = await nobody.post(f"{ROUTE}/{job_id}", json=named)
        assert (reply.status_code, reply.json()["code"]) == (401, "TOKEN_INVALID")
        reply = await nobody.post(f"{ROUTE}/{job_id}", json={"decision": "yes"}, headers={"X-Client-Token": "nobody's"})
        assert (reply.status_code, reply.json()["code"]) == (401, "TOKEN_INVALID")
        await waits(node, job_id, "waiting_for_human")


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_d14_who_has_the_approval_token_decides_that_question_and_no_other(start: Start, door: str) -> None:
    async with start(asking()) as node, http(node, nothing="x") as nobody:
        job_id = await create(node, "asking", {})
        first = await asked(node, job_id)

        async def decide(word: str) -> Any:
            if door == "http":
                given = {"decision": word, "approval_token": first.approval_token}
                return (await nobody.post(f"{ROUTE}/{job_id}", json=given)).json().get("code")
            try:
                seen = await node.client.resolve_approval(job_id, word, approval_token=first.approval_token)
            except FailedPrecondition as error:
                return error.code
            # What is asked, and all else of the job, is its owner's.
            assert (seen.id, seen.approval, seen.blueprint_name) == (job_id, None, "")
            return None

        assert await decide("more") is None
        while (await asked(node, job_id)).approval_id == first.approval_id:
            pass
        assert await decide("yes") == "APPROVAL_NOT_OPEN"
        (resolved,) = await history(node, job_id, "approval_resolved")
        assert resolved.context_snapshot["by"] == "holder of the approval token"
        with pytest.raises(Unauthenticated):
            await node.client.resolve_approval(job_id, "yes", approval_token="0-x-1.y")


async def test_a_job_that_asks_can_be_cancelled_and_cleans_up_if_it_is_to(start: Start) -> None:
    for ways, state in (({}, "start"), ({"cancelled": "tidy"}, "tidy")):
        async with start(asking(ways)) as node:
            job_id = await create(node, "asking", {})
            assert (await asked(node, job_id)).decisions == ("yes", "no", "more")
            await node.client.cancel_job(job_id)
            job = await ended(node, job_id)
            assert (job.status, job.current_state) == ("cancelled", state)
            with pytest.raises(FailedPrecondition, match="it is cancelled"):
                await node.client.resolve_approval(job_id, "yes")


async def test_no_dispatch_timeout_ends_a_job_that_asks(start: Start) -> None:
    async with start(asking()) as node:
        job_id = await create(node, "asking", {}, dispatch_timeout=0.001, result_timeout=0.001)
        await asked(node, job_id)
        other = await create(node, "asking", {})
        await asked(node, other)
        await node.client.resolve_approval(other, "no")
        await ended(node, other)
        await node.client.resolve_approval(job_id, "yes")
        assert (await ended(node, job_id)).status == "finished"


@pytest.mark.parametrize("leads", [True, False])
async def test_a_question_that_nobody_answers_in_time_goes_on_by_timeout_or_fails_its_job(
    start: Start, leads: bool
) -> None:
    ways = {"timeout": "tidy"} if leads else {}
    async with start(asking(ways, timeout_seconds=0.05)) as node:
        job_id = await create(node, "asking", {})
        job = await ended(node, job_id)
        requested, timed_out = await history(node, job_id, "approval_requested", "approval_timed_out")
        assert timed_out.timestamp - requested.timestamp >= 0.05
        assert requested.context_snapshot["until"] == pytest.approx(requested.timestamp + 0.05)
        if leads:
            assert (job.status, job.result["error"]["code"]) == ("finished", "APPROVAL_TIMEOUT")
        else:
            assert job.error is not None
            assert (job.status, job.error.code) == ("failed", "APPROVAL_TIMEOUT")


class Crossing(MemoryStorage):
    """A store in which the time for a decision is over just before that comes.

    Arguments:
        hears: whether the job has heard of that by then.
    """

    def __init__(self, hears: bool) -> None:
        self._its_clock = ManualClock()
        super().__init__(clock=self._its_clock)
        self._hears = hears

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        request_key: str = "",
        most: int | None = None,
    ) -> Appended:
        if isinstance(event, ApprovalResolved):
            before = await self._step(job_id)
            self._its_clock.advance(3_600_000)
            if self._hears:
                await self.fire(1)
            while self._hears and await self._step(job_id) == before:  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.001)
        return await super().append(job_id, event, dedup_key, request_key, most)

    async def _step(self, job_id: str) -> int:
        record = await self.job(job_id)
        assert record is not None
        return record.job.step


@pytest.mark.parametrize("hears", [False, True])
async def test_a_decision_that_crosses_the_end_of_its_time_counts_or_is_refused(hears: bool) -> None:
    crossing = Crossing(hears)
    async with running_node(asking({"timeout": "start"}, timeout_seconds=3_600), storage=crossing) as node:
        job_id = await create(node, "asking", {})
        question = await asked(node, job_id)
        if hears:
            with pytest.raises(FailedPrecondition) as caught:
                await node.client.resolve_approval(job_id, "yes", approval_id=question.approval_id)
            assert caught.value.code == "APPROVAL_NOT_OPEN"
            assert not await history(node, job_id, "approval_resolved")
        else:
            await node.client.resolve_approval(job_id, "yes", approval_id=question.approval_id)
            assert (await ended(node, job_id)).current_state == "publish"
            assert not await history(node, job_id, "approval_timed_out")
