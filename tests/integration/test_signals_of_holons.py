"""What jobs in holons below wait for is sent at the root: whole nodes below each other, over mTLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon import Blueprint
from holon.client import Client, HistoryEvent
from holon.context import ActionFactory
from holon.errors import AlreadyExists, FailedPrecondition, Unavailable
from holon.testing import RunningNode
from tests.integration.cases.site import history
from tests.integration.holon_line import a_holon, passing, until
from tests.integration.middle_store import stores_of


def counting(name: str, wanted: int) -> Blueprint:
    """Ends once it has had so many of `tick`; with those that it had, as they came."""
    made = Blueprint(name)

    @made.handler("start", is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        had = [*state_history.get("had", []), *([state_history.pop("n")] if "n" in state_history else [])]
        state_history["had"] = had
        if len(had) < wanted:
            actions.await_signal({"tick": "start"})
        else:
            actions.go_to("end")

    @made.handler("end", is_end=True)
    async def end(had: list[int]) -> dict[str, Any]:
        return {"had": had}

    return made


async def waits(node: RunningNode, job_id: str) -> HistoryEvent:
    """The line of a job's history that tells of a wait below it, once it does."""
    found: list[HistoryEvent] = []

    async def there() -> bool:
        lines = [line async for line in node.client.history(job_id)]
        found[:] = [line for line in lines if line.event_type == "worker_event:signal_awaited"]
        return bool(found)

    await until(there, f"job {job_id} tells of a wait below it")
    return found[-1]


async def lowest(node: RunningNode, job_id: str) -> str:
    """The job that waits, as a line of history tells of it."""
    line = await waits(node, job_id)
    assert line.context_snapshot is not None
    assert line.context_snapshot["payload"] == {"names": ["tick"]}
    return str(line.context_snapshot["job_ids"][-1])


@pytest.fixture(params=["sqlite", "moved", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Where the holon in the middle has its jobs, and their history."""
    yield from stores_of(request.param, tmp_path)


async def test_signals_that_are_sent_at_the_root_reach_a_job_two_levels_below_once_each(
    tmp_path: Path, store: dict[str, Any]
) -> None:
    admin = tmp_path / "admin.sock"
    pure: dict[str, Any] = {"ENABLE_CLIENT_API": False, "ADMIN_SOCKET": str(admin)}
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", passing("middle", "last"), above=root, ENABLE_CLIENT_API=False, **store) as middle,
        a_holon(tmp_path, "last", counting("last", 3), above=middle, **pure),
    ):
        job_id = (await root.client.create_job("top", {})).job_id
        to = await lowest(root, job_id)
        own = await root.client.get_job(job_id)
        assert (own.status, own.signal, own.kept_signals) == ("waiting_for_worker", None, 0)
        # More than it waits for at a time: it keeps what comes early, in order.
        async with httpx.AsyncClient(base_url=root.url) as api:
            for n in (1, 2, 2, 1):
                answer = await api.post(
                    f"/api/v1/jobs/{job_id}/signals",
                    json={"name": "tick", "data": {"n": n}, "to_job_id": to},
                    headers={"X-Client-Token": root.token, "Idempotency-Key": f"k{n}"},
                )
                assert (answer.status_code, answer.json()["status"]) == (200, "signal_received")

        async def both_taken() -> bool:
            return len(await history(root, job_id, "worker_event:signal_received")) >= 2

        await until(both_taken, "both signals were taken: only then is it known whose request ids they are")
        with pytest.raises(AlreadyExists):
            await root.client.send_signal(job_id, "tock", to_job_id=to, request_id="k1")
        await root.client.send_signal(job_id, "tick", {"n": 3}, to_job_id=to, request_id="k3")
        assert (await root.client.wait_for(job_id, timeout=60)).status == "finished"
        # All of it is over: a repeat is answered as before, and another comes too late.
        await root.client.send_signal(job_id, "tick", {"n": 3}, to_job_id=to, request_id="k3")
        with pytest.raises(FailedPrecondition) as late:
            await root.client.send_signal(job_id, "tick", {"n": 4}, to_job_id=to, request_id="k4")
        assert late.value.code == "SIGNAL_NOT_AWAITED"
        async with Client(f"unix:{admin}", "") as operator:
            below = await operator.get_job(to)
            assert below.result == {"had": [1, 2, 3]}
            lines = [one async for one in operator.history(to) if one.event_type == "signal_received"]
        for line in lines:
            assert line.context_snapshot is not None
            assert (line.context_snapshot["by"], line.context_snapshot["name"]) == ("default", "tick")
            assert line.context_snapshot["parent_holon_id"]
            assert line.context_snapshot["sent_at"] > 1_700_000_000


async def test_while_the_child_is_off_who_sends_is_told_to_try_again_and_its_repeats_count_once(
    tmp_path: Path,
) -> None:
    async with a_holon(tmp_path, "root", passing("top", "last")) as root:
        job_id = (await root.client.create_job("top", {})).job_id
        async with a_holon(tmp_path, "last", counting("last", 2), above=root):
            to = await lowest(root, job_id)
            await root.client.send_signal(job_id, "tick", {"n": 1}, to_job_id=to, request_id="k1")
        with pytest.raises(Unavailable, match="retry when it is back") as away:
            await root.client.send_signal(job_id, "tick", {"n": 2}, to_job_id=to, request_id="k2")
        assert (away.value.code, away.value.retry_after) == ("HOLON_AWAY", 2.0)
        async with a_holon(tmp_path, "last", counting("last", 2), above=root):
            for n in (1, 2):

                async def taken(n: int = n) -> bool:
                    with suppress(Unavailable):
                        await root.client.send_signal(job_id, "tick", {"n": n}, to_job_id=to, request_id=f"k{n}")
                        return True
                    return False

                await until(taken, "the child is back and takes it")
            assert (await root.client.wait_for(job_id, timeout=60)).status == "finished"
        lines = [line async for line in root.client.history(job_id)]
        assert len([line for line in lines if line.event_type == "worker_event:signal_received"]) == 2
