"""A job of a parent's that waits for a person or for a time: decided here, and ended by its parent's time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.client import Client, Job
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.job import JobError, Status
from tests.integration.a_child import a_child, answer, offered
from tests.integration.holon_line import GUARD_S, a_holon, passing
from tests.integration.scripted_node import Certificates


def waits(*, asks: bool) -> Blueprint:
    made = Blueprint("waits")

    @made.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        if asks:
            actions.await_human_approval("chat", "Go on?", {"yes": "end"})
        else:
            actions.sleep(1_000, "end")

    @made.handler("end", is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return state_history

    return made


@pytest.mark.parametrize("asks", [True, False])
async def test_the_end_of_a_parents_time_ends_what_waits_for_a_person_or_a_time(
    certificates: Certificates, asks: bool
) -> None:
    async with a_child(certificates, [waits(asks=asks)]) as child:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {}, time_left=Duration(nanos=200_000_000))
        assert (await answer(stream)).HasField("accepted")
        result = (await answer(stream)).result
        assert (result.status, result.error.code) == ("failure", "DEADLINE_EXCEEDED")
        (record,) = await child.jobs()
        assert record.job.error == JobError("CANCELLED", "cancelled by the end of its time")
        assert record.job.status is Status.CANCELLED


async def test_the_operator_of_a_pure_holon_decides_what_a_job_of_its_parent_asks(tmp_path: Path) -> None:
    admin = tmp_path / "admin.sock"
    pure: dict[str, Any] = {"ENABLE_CLIENT_API": False, "ADMIN_SOCKET": str(admin)}
    async with (
        a_holon(tmp_path, "root", passing("top", "waits")) as root,
        a_holon(tmp_path, "below", waits(asks=True), above=root, **pure),
        Client(f"unix:{admin}", "") as operator,
    ):
        job_id = (await root.client.create_job("top", {})).job_id
        asking: list[Job] = []
        while not asking:
            asking = [one async for one in operator.list_jobs(statuses=["waiting_for_human"])]
        question = (await operator.get_job(asking[0].id)).approval
        assert question is not None
        # There is no token of a client's that one could be made of.
        assert (question.message, question.approval_token) == ("Go on?", "")
        await operator.resolve_approval(asking[0].id, "yes", data={"n": 1})
        assert (await root.client.wait_for(job_id, timeout=GUARD_S)).status == "finished"
        lines = [one async for one in operator.history(asking[0].id)]
        (by,) = [one.context_snapshot["by"] for one in lines if one.event_type == "approval_resolved"]
        assert by == "operator"
