"""Jobs of a parent's tasks that were made and not noted: taken up if their task comes again, and else stopped."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.domain.job import Status
from holon.domain.task import SUCCESS, Outcome
from holon.engine.requests import Creating, Listing
from holon.errors import HolonError, ResourceExhausted, StoreUnavailable
from holon.storage.memory import MemoryStorage
from holon.uplink import unknown
from holon.uplink.delegation import origin_key, owner_of
from tests.integration.a_child import PARENT, STORE, Child, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.echoing import blueprints, finishes


async def serves(child: Child) -> None:
    """Return once a child knows its parent, whenever it starts again."""
    await child.linked()
    async with asyncio.timeout(GUARD):
        while not child.holarchy.parent_id:  # noqa: ASYNC110  it looks from outside
            await asyncio.sleep(0.001)


async def test_a_job_that_was_made_and_not_noted_is_gone_on_with_if_its_task_comes_again_and_else_stopped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "UNKNOWN_AFTER_S", 0.5)
    async with MemoryStorage(STORE, SystemClock()) as store:
        async with a_child(certificates, blueprints(), store=store) as child:
            await serves(child)
            for task in ("wanted", "elsewhere"):
                asked = Creating("waits", {"of": "leaf"}, origin_key(task, 1, 0))
                await child.engine.jobs.create_for_parent(owner_of(PARENT), [asked])
        async with (
            a_child(certificates, blueprints(), store=store) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked()
            await offered(stream, "wanted", "waits", {"of": "leaf"}, attempt=2)
            assert (await answer(stream)).HasField("accepted")
            given = {(one := await leaf.given()).job_id: one for _ in range(2)}
            async with asyncio.timeout(GUARD):
                (stop,) = [await leaf.stops.get()]
            (left,) = [offer for offer in given.values() if offer.lease_id != stop.lease.lease_id]
            await leaf.ends(left, Outcome(SUCCESS, b"{}"))
            assert (await stream.result()).task_id == "wanted"
            assert len(await child.jobs()) == 2


@pytest.mark.parametrize(
    "refused",
    [
        StoreUnavailable("away", retry_after=0.001),
        ResourceExhausted("its inbox is full", code="INBOX_FULL", retry_after=0.001),
    ],
)
async def test_each_job_that_was_made_and_not_noted_is_stopped_though_that_is_refused_at_first(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: HolonError
) -> None:
    monkeypatch.setattr(unknown, "UNKNOWN_AFTER_S", 0.1)
    monkeypatch.setattr(unknown, "Listing", partial(Listing, page_size=2))
    async with MemoryStorage(STORE, SystemClock()) as store:
        async with a_child(certificates, blueprints(), store=store) as child:
            await serves(child)
            for n in range(5):
                asked = Creating("waits", {}, origin_key(f"t{n}", 1, 0))
                await child.engine.jobs.create_for_parent(owner_of(PARENT), [asked])
        async with a_child(certificates, blueprints(), store=store) as child:
            cancel = child.engine.jobs.cancel

            async def refused_once(*_: str, **__: Any) -> Any:
                monkeypatch.setattr(child.engine.jobs, "cancel", cancel)
                raise refused

            monkeypatch.setattr(child.engine.jobs, "cancel", refused_once)
            stream = await child.linked()
            async with asyncio.timeout(GUARD):
                while {one.job.status for one in await child.jobs()} != {Status.CANCELLED}:  # noqa: ASYNC110  it looks from outside
                    await asyncio.sleep(0.001)
            errors = {one.job.error.message for one in await child.jobs() if one.job.error is not None}
            assert f"jobs that the parent does not know are cancelled later: {refused.message}" in caplog.messages
            assert errors == {"cancelled by the uplink: the parent holon does not know it"}
            # That is no reason to link again.
            await finishes(child, stream, "t9")
