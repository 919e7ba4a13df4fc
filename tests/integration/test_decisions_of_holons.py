"""A person decides at the root what a job asks that is holons below: whole nodes below each other, over mTLS."""

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
from holon.errors import FailedPrecondition, InvalidArgument, Unavailable
from holon.testing import RunningNode
from tests.integration.holon_line import a_holon, passing, until
from tests.integration.middle_store import stores_of


def asking(name: str) -> Blueprint:
    """Asks a person, and ends with what was decided."""
    made = Blueprint(name)

    @made.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "Publish?", {"yes": "end", "no": "bad"})

    @made.handler("end", is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return state_history

    @made.handler("bad", is_end=True, outcome="failed")
    async def bad() -> None: ...

    return made


async def told(node: RunningNode, job_id: str, kind: str = "requested") -> HistoryEvent:
    """The line of a job's history that tells this of a question below it, once it does."""
    found: list[HistoryEvent] = []

    async def there() -> bool:
        lines = [line async for line in node.client.history(job_id)]
        found[:] = [line for line in lines if line.event_type == f"worker_event:approval_{kind}"]
        return bool(found)

    await until(there, f"job {job_id} tells that an approval is {kind}")
    return found[-1]


async def question(node: RunningNode, job_id: str) -> str:
    line = await told(node, job_id)
    assert line.context_snapshot is not None
    return str(line.context_snapshot["payload"]["approval_id"])


@pytest.fixture(params=["sqlite", "moved", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Where the holon in the middle has its jobs, and their history."""
    yield from stores_of(request.param, tmp_path)


async def test_a_question_two_levels_below_is_decided_at_the_root_once_and_its_job_goes_on(
    tmp_path: Path, store: dict[str, Any]
) -> None:
    admin = tmp_path / "admin.sock"
    pure: dict[str, Any] = {"ENABLE_CLIENT_API": False, "ADMIN_SOCKET": str(admin)}
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", passing("middle", "last"), above=root, ENABLE_CLIENT_API=False, **store) as middle,
        a_holon(tmp_path, "last", asking("last"), above=middle, **pure),
    ):
        job_id = (await root.client.create_job("top", {"n": 1})).job_id
        asked = await question(root, job_id)
        own = await root.client.get_job(job_id)
        assert (own.status, own.approval) == ("waiting_for_worker", None)
        with pytest.raises(InvalidArgument, match="use yes or no"):
            await root.client.resolve_approval(job_id, "perhaps", approval_id=asked)
        async with httpx.AsyncClient(base_url=root.url) as api:
            route, own_token = f"/_public/webhooks/approval/{job_id}", {"X-Client-Token": root.token}
            headers = own_token | {"Idempotency-Key": "k"}
            body = {"decision": "yes", "approval_id": asked, "data": {"by": "ann"}, "comment": "fine"}
            for _ in range(2):
                answer = await api.post(route, json=body, headers=headers)
                assert (answer.status_code, answer.json()["status"]) == (200, "approval_received")
            assert (await root.client.wait_for(job_id, timeout=60)).status == "finished"
            assert (await api.post(route, json=body, headers=headers)).status_code == 200
            late = await api.post(route, json=body | {"decision": "no"}, headers=own_token)
            assert (late.status_code, late.json()["code"]) == (409, "APPROVAL_NOT_OPEN")
        known = (await told(root, job_id, "resolved")).context_snapshot
        assert known is not None
        assert (known["payload"]["comment"], known["payload"]["by"]) == ("fine", "default")
        # Who decided, and through whom it came, is known where it was done.
        async with Client(f"unix:{admin}", "") as operator:
            (listed,) = [job async for job in operator.list_jobs()]
            below = await operator.get_job(listed.id)
            assert below.result == {"by": "ann"}
            (line,) = [one async for one in operator.history(below.id) if one.event_type == "approval_resolved"]
            assert line.context_snapshot is not None
            assert (line.context_snapshot["by"], line.context_snapshot["decision"]) == ("default", "yes")
            assert line.context_snapshot["parent_holon_id"]


async def test_while_the_child_is_off_who_decides_is_told_to_try_again_and_then_it_works(tmp_path: Path) -> None:
    async with a_holon(tmp_path, "root", passing("top", "last")) as root:
        async with a_holon(tmp_path, "last", asking("last"), above=root):
            job_id = (await root.client.create_job("top", {"n": 1})).job_id
            asked = await question(root, job_id)
        with pytest.raises(Unavailable, match="retry when it is back") as away:
            await root.client.resolve_approval(job_id, "yes", approval_id=asked)
        assert (away.value.code, away.value.retry_after) == ("HOLON_AWAY", 2.0)
        async with a_holon(tmp_path, "last", asking("last"), above=root):

            async def taken() -> bool:
                with suppress(Unavailable):
                    await root.client.resolve_approval(job_id, "yes", approval_id=asked)
                    return True
                return False

            await until(taken, "the child is back and takes it")
            assert (await root.client.wait_for(job_id, timeout=60)).status == "finished"
            with pytest.raises(FailedPrecondition) as closed:
                await root.client.resolve_approval(job_id, "yes", approval_id=asked)
            assert closed.value.code == "APPROVAL_NOT_OPEN"
