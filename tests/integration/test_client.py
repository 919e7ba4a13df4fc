"""The client: what it answers and what it raises, over real gRPC."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from holon.client import Client, CreatedJob, Job, JobRequest
from holon.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from tests.integration.client_doors import door
from tests.integration.http_node import GUARD, TOKEN


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with door() as url, Client(url, TOKEN, timeout=GUARD) as it:
        yield it


async def test_a_job_is_created_waited_for_and_read(client: Client) -> None:
    created = await client.create_job("doubling", {"n": 21})
    assert not created.existing
    seen: list[Job] = []
    job = await client.wait_for(created.job_id, timeout=GUARD, seen=seen.append)
    assert job == await client.get_job(created.job_id) == seen[-1]
    assert (job.status, job.result, job.error, job.terminal) == ("finished", {"twice": 42}, None, True)
    assert (job.blueprint_name, job.current_state, job.progress) == ("doubling", "done", None)
    assert job.finished_at is not None
    assert 1_700_000_000 < job.created_at <= job.updated_at <= job.finished_at < 5_000_000_000


async def test_a_failed_job_has_its_error_and_no_result(client: Client) -> None:
    created = await client.create_job("plain")
    job = await client.wait_for(created.job_id, timeout=GUARD)
    assert (job.status, job.result) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.details) == ("ENDED_FAILED", {"tried": True})


async def test_waiting_ends_at_its_timeout_and_the_job_goes_on(client: Client) -> None:
    created = await client.create_job("waiting", {})
    seen: list[Job] = []
    with pytest.raises(TimeoutError, match=f"^job {created.job_id} has not ended after 0.05 s, and continues") as over:
        await client.wait_for(created.job_id, timeout=0.05, seen=seen.append)
    assert not seen or f": {seen[-1].status}" in str(over.value)
    job = await client.get_job(created.job_id)
    assert (job.status, job.terminal, job.finished_at) == ("waiting_for_worker", False, None)
    assert "nobody-has-this" in job.progress_message


async def test_who_looks_on_while_a_job_is_waited_for_may_run_out_of_time_too(client: Client) -> None:
    def look(job: Job) -> None:
        raise TimeoutError(f"{job.status} is not looked at for ever")

    created = await client.create_job("waiting", {})
    with pytest.raises(TimeoutError, match="is not looked at for ever"):
        await client.wait_for(created.job_id, timeout=GUARD, seen=look)


@pytest.mark.parametrize("timeout", [float("nan"), -1, -0.001])
async def test_a_wait_of_no_number_of_seconds_is_refused(client: Client, timeout: float) -> None:
    with pytest.raises(ValueError, match=f"timeout is {timeout}; it must be a number of seconds"):
        await client.wait_for("0-unknown", timeout=timeout)


async def test_one_request_id_makes_one_job(client: Client) -> None:
    first = await client.create_job("doubling", {"n": 1}, request_id="order-7")
    again = await client.create_job("doubling", {"n": 1}, request_id="order-7")
    assert (first.existing, again.existing) == (False, True)
    assert first.job_id == again.job_id
    with pytest.raises(AlreadyExists) as caught:
        await client.create_job("doubling", {"n": 2}, request_id="order-7")
    assert caught.value.code == "REQUEST_ID_REUSED"


async def test_a_request_id_that_is_empty_is_refused(client: Client) -> None:
    created = await client.create_job("waiting")
    with pytest.raises(InvalidArgument, match=r"^request_id is empty"):
        await client.create_job("waiting", request_id="")
    with pytest.raises(InvalidArgument, match=r"^request_id is empty"):
        await client.cancel_job(created.job_id, request_id="")
    (refused,) = await client.create_jobs([JobRequest("waiting", request_id="")])
    assert isinstance(refused, InvalidArgument)
    assert [job.id for job in (await client.list_page()).jobs] == [created.job_id]


async def test_jobs_are_listed_over_all_pages_newest_first(client: Client) -> None:
    made = [(await client.create_job("waiting")).job_id for _ in range(5)]
    page = await client.list_page(page_size=2)
    assert [job.id for job in page.jobs] == made[:2:-1]
    assert page.next_page_token
    assert [job.id async for job in client.list_jobs(page_size=2)] == made[::-1]
    assert [job async for job in client.list_jobs(statuses=["finished"])] == []
    assert [job async for job in client.list_jobs(blueprint="doubling")] == []


async def test_the_history_is_read_over_all_pages_oldest_first(client: Client) -> None:
    created = await client.create_job("doubling", {"n": 1})
    await client.wait_for(created.job_id, timeout=GUARD)
    events = [event async for event in client.history(created.job_id, page_size=2)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (events[0].event_type, events[-1].event_type) == ("job_created", "job_completed")
    assert events[0].context_snapshot == {"blueprint": "doubling"}
    assert events[0].worker_id is None


async def test_a_cancelled_job_ends_and_cannot_be_cancelled_again(client: Client) -> None:
    created = await client.create_job("waiting")
    assert (await client.cancel_job(created.job_id)).id == created.job_id
    assert (await client.wait_for(created.job_id, timeout=GUARD)).status == "cancelled"
    with pytest.raises(FailedPrecondition) as caught:
        await client.cancel_job(created.job_id)
    assert caught.value.code == "JOB_TERMINATED"


async def test_a_blueprint_without_a_path_has_no_version_of_one(client: Client) -> None:
    found = {one.name: (one.api_endpoint, one.api_version) async for one in client.node.list_blueprints()}
    assert (found["doubling"], found["hidden"]) == (("/api/v1/jobs/doubling", "v1"), (None, None))


async def test_the_errors_of_the_node_come_back_as_what_they_were(client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        await client.get_job("none")
    assert missing.value.code == "JOB_NOT_FOUND"
    with pytest.raises(NotFound) as hidden:
        await client.create_job("hidden")
    assert hidden.value.code == "BLUEPRINT_NOT_FOUND"
    with pytest.raises(InvalidArgument) as wrong:
        await client.create_job("doubling", {"n": "x"})
    assert wrong.value.code == "INPUT_INVALID"
    assert [violation.field for violation in wrong.value.details] == ["initial_data.n"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, ".n is a set, which JSON cannot hold"),
        (2**64, ".n is an integer of over 64 bits"),
        (math.nan, ".n is nan"),
        ([None, {"deep": -math.inf}], ".n[1].deep is -inf"),
        ([None, {"deep": b"x"}], ".n[1].deep is a bytes, which JSON cannot hold"),
    ],
)
async def test_what_json_cannot_hold_is_refused_before_it_is_sent(client: Client, value: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match="^" + re.escape(f"initial_data{said}")) as refused:
        await client.create_job("waiting", {"n": value, "none": None})
    assert refused.value.code == "NOT_JSON"
    (beside, made) = await client.create_jobs([JobRequest("waiting", {"n": value}), JobRequest("waiting", {"n": None})])
    assert isinstance(beside, InvalidArgument)
    assert beside.code == "NOT_JSON"
    assert isinstance(made, CreatedJob)
    assert [job.id async for job in client.list_jobs()] == [made.job_id]


UNWRITABLE = "gr\udcff"  # as the command line gives what is no UTF-8


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("blueprint_name", lambda client: client.create_job(UNWRITABLE)),
        ("request_id", lambda client: client.create_job("doubling", {"n": 1}, request_id=UNWRITABLE)),
        ("skills", lambda client: client.create_job("doubling", {"n": 1}, allowed_skills=[UNWRITABLE])),
        ("dispatch_timeout", lambda client: client.create_job("doubling", {"n": 1}, dispatch_timeout=math.nan)),
        ("result_timeout", lambda client: client.create_job("doubling", {"n": 1}, result_timeout=1e300)),
        ("result_timeout", lambda client: client.create_job("doubling", {"n": 1}, result_timeout=cast("Any", "5"))),
        ("job_id", lambda client: client.get_job(UNWRITABLE)),
        ("job_id", lambda client: client.cancel_job(UNWRITABLE)),
        ("job_id", lambda client: client.get_job(cast("Any", 5))),
        ("name", lambda client: client.send_signal("0-a", cast("Any", 5))),
        ("to_job_id", lambda client: client.send_signal("0-a", "paid", to_job_id=cast("Any", ["0-b"]))),
        ("decision", lambda client: client.resolve_approval("0-a", cast("Any", 7))),
        ("statuses", lambda client: client.list_page(statuses=["failed", UNWRITABLE])),
        ("created_before", lambda client: client.list_page(created_before=math.inf)),
        ("page_size", lambda client: client.history_page("0-a", page_size=2**40)),
        ("max_depth", lambda client: client.tree_page("0-a", max_depth=2**40)),
        ("after_sequence", lambda client: anext(client.watch("0-a", after=2**70))),
        ("worker_id", lambda client: client.node.drain_worker(UNWRITABLE)),
        ("grace", lambda client: client.node.drain(grace=-math.inf)),
    ],
)
async def test_what_no_message_can_hold_is_refused_by_its_name(
    client: Client, field: str, call: Callable[[Client], Awaitable[object]]
) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{field} is .* sent"):
        await call(client)


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_call_without_the_right_token_is_refused(token: str | None) -> None:
    async with door() as url, Client(url, token) as client:
        with pytest.raises(Unauthenticated) as caught:
            await client.get_job("x")
    assert caught.value.code == "TOKEN_INVALID"


async def test_names_that_are_one_text_are_not_taken_for_its_letters(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="allowed_skills is 'echo'; give a list"):
        await client.create_job("waiting", allowed_skills="echo")
    with pytest.raises(InvalidArgument, match="statuses is 'failed'; give a list"):
        await client.list_page(statuses="failed")
    with pytest.raises(InvalidArgument, match="targets is 'clients'; give a list"):
        await client.node.reload("clients")
