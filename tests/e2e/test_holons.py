"""Compound holons, in real processes: what a parent asks for is done by its child's workers, once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from tests.e2e.holons import Family, a_family
from tests.e2e.processes import until


async def asked(family: Family, skill: str, **more: Any) -> dict[str, Any]:
    """The parent's job that asked for this, once it is over."""
    return await family.parent.ended(await family.parent.create("/jobs/ask", {"skill": skill, **more}))


@pytest.mark.slow
async def test_a_parents_task_is_a_job_of_its_childs_and_its_result_comes_back(tmp_path: Path) -> None:
    async with a_family(tmp_path, UPLINK_SKILLS="tell, echo,fail", HOLON_LABEL="Harbour") as family:
        done = await asyncio.gather(*(asked(family, "work", params={"n": n}) for n in range(20)))
        assert [(job["status"], job["result"]) for job in done] == [("finished", {"echo": n}) for n in range(20)]
        assert (family.work.begun, family.work.ended) == (20, 20)
        # No client of the child sees what its parent has it do.
        assert (await family.child.api.get("/api/v1/jobs")).json()["jobs"] == []

        listed = await asked(family, "steps", params={"first": 40, "second": 20})
        assert listed["result"] == {"result": [1, 2, 3]}

        # Its worker's skills as they are, and what that worker says.
        assert (await asked(family, "echo", params={"n": 21}))["result"] == {"echo": 21}
        failed = await asked(family, "fail", params={"code": "PERMANENT_ERROR", "message": "the tide"})
        assert (failed["status"], failed["error"]["code"]) == ("quarantined", "PERMANENT_ERROR")
        assert failed["error"]["message"] == "Task failed: PERMANENT_ERROR: the tide"
        async with Client(family.parent.client_url, family.parent.token, family.parent.ca) as operator:
            (child,) = [one async for one in operator.node.list_workers()]
        assert (child.labels, {"echo", "fail", "tell", "work"} <= set(child.skills)) == ({"holon": "Harbour"}, True)


async def test_what_goes_wrong_in_a_child_is_told_by_what_became_of_its_job(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:
        lost = await asked(family, "lose")
        assert (lost["status"], lost["error"]["code"]) == ("failed", "CHILD_FAILED")
        told = lost["error"]["details"]
        assert told["details"] == {"why": "on purpose"}
        assert [(cause["code"], cause["name"]) for cause in told["causes"]] == [("ENDED_FAILED", "lose")]

        consoled = await asked(family, "lose", transitions={"failure": "consoled"})
        assert (consoled["status"], consoled["result"]["consoled"]["code"]) == ("finished", "CHILD_FAILED")

        broken = await asked(family, "break_down")
        assert (broken["status"], broken["error"]["code"]) == ("quarantined", "CHILD_QUARANTINED")
        assert [cause["code"] for cause in broken["error"]["details"]["causes"]] == ["PERMANENT_ERROR"]

        wrong = await asked(family, "lie")
        assert (wrong["status"], wrong["error"]["code"]) == ("failed", "CHILD_FAILED")
        assert [cause["code"] for cause in wrong["error"]["details"]["causes"]] == ["CONTRACT_VIOLATION"]

        # Nobody offers what does not take these params, nor what is internal.
        for skill, params in (("work", {"n": "text"}), ("secret", {})):
            job = await family.parent.create("/jobs/ask", {"skill": skill, "params": params}, dispatch_timeout=1.0)
            assert (await family.parent.ended(job))["error"]["code"] == "DISPATCH_TIMEOUT"
        assert family.work.begun == 0


async def test_a_cancel_reaches_the_childs_job_and_its_tasks(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:
        job = await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": 1, "seconds": 60}})
        await until(lambda: family.work.begun == 1, "the leaf has begun")
        assert (await family.parent.api.post(f"/api/v1/jobs/{job}/cancel")).status_code == 200
        assert (await family.parent.ended(job))["status"] == "cancelled"
        # Its clean-up is a task of its own; what was cancelled has not ended.
        await until(lambda: family.work.ended == 1, "the child has cleaned up")
        assert family.work.begun == 2
        # The child holds nothing any more, and takes the next.
        assert (await asked(family, "work", params={"n": 5}))["result"] == {"echo": 5}


async def test_work_goes_on_while_its_parent_or_the_link_is_away_and_is_done_once(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:
        jobs = [
            await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": n, "seconds": 4}})
            for n in range(5)
        ]
        await until(lambda: family.work.begun == 5, "the leaf has begun all of it")
        await family.parent.process.end(signal.SIGKILL)
        await until(lambda: family.work.ended == 5, "the leaf has ended all of it")
        await family.parent.start()
        ended = [await family.parent.ended(job) for job in jobs]
        assert [job["result"] for job in ended] == [{"echo": n} for n in range(5)]
        assert (family.work.begun, family.work.ended) == (5, 5)


async def test_work_goes_on_while_its_child_is_away_and_is_done_once(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:
        jobs = [
            await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": n, "seconds": 4}})
            for n in range(5)
        ]
        await until(lambda: family.work.begun == 5, "the leaf has begun all of it")
        await family.child.process.end(signal.SIGKILL)
        await until(lambda: family.work.ended == 5, "the leaf has ended all of it")
        await family.child.start()
        ended = [await family.parent.ended(job) for job in jobs]
        assert [job["result"] for job in ended] == [{"echo": n} for n in range(5)]
        assert (family.work.begun, family.work.ended) == (5, 5)


async def test_a_child_is_given_what_its_workers_have_room_for_and_no_heap_of_jobs(tmp_path: Path) -> None:
    async with a_family(tmp_path, leaf={"MAX_CONCURRENT": 3}) as family:
        jobs = [
            await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": n, "seconds": 0.7}})
            for n in range(20)
        ]
        most_held = most_running = 0
        async with Client(family.parent.client_url, family.parent.token, family.parent.ca) as operator:
            while family.work.ended < 20:
                (child,) = [one async for one in operator.node.list_workers()]
                most_held = max(most_held, child.held)
                most_running = max(most_running, family.work.begun - family.work.ended)
        # All of its places were taken, and none waited for one. Results may be on their way, though, while others have
        # the places of their jobs, which its word of credits gave away again.
        assert most_running == 3
        assert most_held <= 6
        assert {(await family.parent.ended(job))["status"] for job in jobs} == {"finished"}
