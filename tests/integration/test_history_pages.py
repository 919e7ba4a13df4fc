"""Pages of history end by their bytes too, whatever was asked for, and the next goes on there."""

from __future__ import annotations

from holon.domain.client import Client
from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.ports import MAX_PAGE_BYTES, NewJob
from holon.rxon.v1 import job_pb2
from tests.integration.grpc_node import Node

LINES = 300
# As long as the message of an error may be, and six times as long in JSON.
MESSAGE = "\x01" * 8_192
JOB = Job("0-a", "relay", "default", {}, "start")


async def test_a_page_of_large_lines_ends_early_and_the_next_goes_on(node: Node) -> None:
    lines = [HistoryEvent("task_finished", 1, details={"error": MESSAGE, "n": n}) for n in range(LINES)]
    await node.engine.store.create_jobs([NewJob(JOB, tuple(lines))])
    numbers: list[int] = []
    token, pages = "", 0
    while token or not pages:
        asked = job_pb2.GetJobHistoryRequest(job_id=JOB.id, page_size=1_000, page_token=token)
        page = await node.call("GetJobHistory", asked, job_pb2.GetJobHistoryResponse.FromString)
        numbers += [event.sequence for event in page.events]
        token, pages = page.next_page_token, pages + 1
        assert page.ByteSize() < MAX_PAGE_BYTES + len(MESSAGE)
    # The job runs meanwhile, and is told of.
    assert numbers[:LINES] == list(range(1, LINES + 1))
    assert pages > 1


async def test_a_line_that_is_larger_than_a_page_may_be_is_a_page(node: Node) -> None:
    large = HistoryEvent("task_finished", 1, details={"error": "x" * (MAX_PAGE_BYTES + 1)})
    await node.engine.store.create_jobs([NewJob(JOB, (large, large))])
    page, token = await node.engine.jobs.history(Client("default"), JOB.id, 10)
    assert [number for number, _ in page] == [1]
    page, token = await node.engine.jobs.history(Client("default"), JOB.id, 10, token)
    assert page[0][0] == 2
