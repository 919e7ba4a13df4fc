"""Quotas of a month: creations count, once, and what is over them is refused with the time of the next month."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from holon import Blueprint
from holon.domain.client import Client
from holon.engine.batches import create_all
from holon.engine.jobs import Jobs
from holon.engine.quotas import monthly
from holon.engine.requests import Creating, Listing
from holon.errors import InvalidArgument, QuotaExceeded
from holon.ports import Quota
from tests.integration.http_node import running


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    async with running() as node:
        yield node.engine.jobs


def having(name: str, quota: int | None = None) -> Client:
    return Client(name, monthly_attempts=quota)


def doubling(n: int = 1, request_id: str | None = None) -> Creating:
    return Creating("doubling", {"n": n}, request_id)


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


async def test_a19_the_third_creation_of_a_quota_of_two_is_refused(jobs: Jobs) -> None:
    await jobs.create(having("ann", 2), doubling())
    await jobs.create(having("ann", 2), doubling())
    with pytest.raises(QuotaExceeded) as refused:
        await jobs.create(having("ann", 2), doubling())
    error = refused.value
    assert (error.code, error.subject) == ("QUOTA_EXCEEDED", "ann")
    now = datetime.now(UTC)
    assert error.message.startswith("Quota exceeded or not configured: ann may create 2 jobs in ")
    assert f"{now:%Y-%m}" in error.message
    assert error.message.endswith("-01T00:00:00Z")
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 31 * 86_400
    assert len((await jobs.list("ann", Listing()))[0]) == 2


async def test_who_may_create_none_is_not_promised_more_in_another_month(jobs: Jobs) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        await jobs.create(having("ann", 0), doubling())
    why = "ann may create no jobs: its quota is 0; an administrator can raise it"
    assert refused.value.message == f"Quota exceeded or not configured: {why}"


async def test_who_is_known_to_have_used_up_a_quota_has_no_handler_run_for_what_is_refused() -> None:
    ran, once = list[int](), asyncio.Event()
    bp = Blueprint("counting", api_endpoint="/jobs/counting")

    @bp.handler(is_start=True, is_end=True)
    async def only(n: int) -> None:
        ran.append(n)
        once.set()

    async with running(more=[bp]) as node:
        jobs = node.engine.jobs
        await jobs.create(having("ann", 2), Creating("counting", {"n": 0}))
        async with asyncio.timeout(10):
            # From here on it runs before its job is stored.
            await once.wait()
        await jobs.create(having("ann", 2), Creating("counting", {"n": 1}))
        for n in (2, 3, 4):
            with pytest.raises(QuotaExceeded):
                await jobs.create(having("ann", 2), Creating("counting", {"n": n}))
        await jobs.create(having("ann", 3), Creating("counting", {"n": 5}))
    assert [n for n in ran if n not in (0, 2)] == [1, 5]


async def test_one_owners_quota_is_not_anothers_and_none_is_no_limit(jobs: Jobs) -> None:
    await jobs.create(having("ann", 1), doubling())
    await jobs.create(having("bob", 1), doubling())
    with pytest.raises(QuotaExceeded):
        await jobs.create(having("ann", 1), doubling())
    await jobs.create(having("ann"), doubling())


async def test_what_is_refused_or_repeated_does_not_count(jobs: Jobs) -> None:
    with pytest.raises(InvalidArgument):
        await jobs.create(having("ann", 1), Creating("doubling", {"n": "x"}))
    first = await jobs.create(having("ann", 1), doubling(request_id="r"))
    again = await jobs.create(having("ann", 1), doubling(request_id="r"))
    assert (again.job_id, again.existing) == (first.job_id, True)
    with pytest.raises(QuotaExceeded):
        await jobs.create(having("ann", 1), doubling(request_id="s"))


async def test_a_batch_is_made_as_far_as_the_quota_goes(jobs: Jobs) -> None:
    made = await create_all(jobs, having("ann", 3), [doubling(n) for n in range(5)])
    assert sum(isinstance(one, QuotaExceeded) for one in made) == 2
    assert len((await jobs.list("ann", Listing()))[0]) == 3


async def test_many_at_once_do_not_get_past_their_quota(jobs: Jobs) -> None:
    made = await asyncio.gather(*(jobs.create(having("ann", 4), doubling()) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(one, QuotaExceeded) for one in made) == 16


@pytest.mark.parametrize(
    ("now", "period", "ends"),
    [
        ("2026-11-01T00:00:00", "2026-11", "2026-12-01T00:00:00"),
        ("2026-11-30T23:59:59.999", "2026-11", "2026-12-01T00:00:00"),
        ("2026-12-31T12:00:00", "2026-12", "2027-01-01T00:00:00"),
        ("2028-02-29T12:00:00", "2028-02", "2028-03-01T00:00:00"),
    ],
)
def test_a_period_is_a_month_of_utc(now: str, period: str, ends: str) -> None:
    assert monthly("ann", 5, at(now)) == Quota("ann", 5, period, at(ends))
