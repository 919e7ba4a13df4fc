"""How often a holon tells its parent of a job that runs: soon, then now and then, and not at all where it is silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.client import Client
from holon.domain.job import Job, Status
from holon.domain.tally import Tally
from holon.domain.tree import MAX_SUMMARY_BYTES, Disclose, Summary, Visit
from holon.errors import StoreUnavailable, TooLarge
from holon.ports import JobRecord
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink import summaries
from holon.uplink.delegation import Delegation
from holon.uplink.summaries import Summaries
from holon.worker.leases import Lease
from holon.worker.reports import Reports
from holon.worker.timing import Timing

ENTRY = Delegation("parent", "t1", "0-job", 1, 1, "lease")
RECORD = JobRecord(Job("0-job", "b", "@parent", {}, "s", Status.RUNNING), 1, 1, None, None, "")


class Holon:
    """A holon with one job, whose store may be away; it is its own trees, jobs and reports."""

    def __init__(self, states: int = 1) -> None:
        self.told: list[tuple[Lease, types_pb2.JobSummary]] = []
        self.away = False
        self._states = states

    async def get(self, client: Client, job_id: str) -> JobRecord:
        assert (client.name, job_id) == ("@parent", "0-job")
        return RECORD

    async def read_on(self, tally: Tally, record: JobRecord) -> None:
        if self.away:
            raise StoreUnavailable("away")

    async def summary(self, record: JobRecord, tally: Tally) -> Summary:
        return Summary("h", "0-job", "running", "s", 5, 1, states=(Visit("x" * 100, 1),) * self._states)

    def tell(self, lease: Lease, summary: types_pb2.JobSummary) -> None:
        self.told.append((lease, summary))


class Told:
    def __init__(self, holon: Holon) -> None:
        self.summary = holon.tell


def made(holon: Holon, disclose: Disclose = Disclose.SUMMARY) -> Summaries:
    trees: Any = holon
    reports: Any = Told(holon)
    return Summaries(trees, trees, disclose, reports)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "_FIRST_S", 0.0)
    monkeypatch.setattr(summaries, "_PAUSE_S", 0.0)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_job_is_told_of_once_in_a_while_however_much_happens() -> None:
    holon = Holon()
    telling = made(holon)
    running = asyncio.create_task(telling.run())
    for _ in range(50):
        telling.changed(ENTRY)
        await turns()
    assert [lease for lease, _ in holon.told] == [ENTRY.lease]
    running.cancel()


async def test_a_result_says_how_its_job_was_done_and_goes_without_that_where_the_store_is_away() -> None:
    holon = Holon(states=5_000)
    telling, result = made(holon), worker_pb2.TaskResult(status="success")
    await telling.add(ENTRY, RECORD, result)
    assert result.summary.truncated
    assert 0 < result.summary.ByteSize() <= MAX_SUMMARY_BYTES
    holon.away = True
    without = worker_pb2.TaskResult(status="success")
    await telling.add(ENTRY, RECORD, without)
    assert not without.HasField("summary")
    telling.forget(ENTRY)
    assert repr(telling) == "Summaries(running=0)"


async def test_a_result_does_not_wait_for_a_history_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "_PATIENCE_S", 0.01)
    holon = Holon()

    async def never(tally: Tally, record: JobRecord) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(holon, "read_on", never)
    result = worker_pb2.TaskResult(status="success")
    async with asyncio.timeout(10):
        await made(holon).add(ENTRY, RECORD, result)
    assert not result.HasField("summary")


async def test_a_holon_that_discloses_nothing_tells_nothing() -> None:
    holon = Holon()
    telling, result = made(holon, Disclose.NONE), worker_pb2.TaskResult(status="success")
    running = asyncio.create_task(telling.run())
    telling.changed(ENTRY)
    await turns()
    await telling.add(ENTRY, RECORD, result)
    assert not result.HasField("summary")
    assert holon.told == []
    running.cancel()


class Narrow:
    """A session with a node that reads little."""

    max_payload_bytes = 1_000
    max_message_bytes = 1_000

    def __init__(self) -> None:
        self.sent: list[worker_pb2.TaskUpdate] = []

    def put(self, encoded: bytes) -> None:
        if len(encoded) > self.max_message_bytes:
            raise TooLarge("more than the node reads")
        self.sent.append(worker_pb2.TaskUpdate.FromString(encoded))


async def test_what_is_told_beside_a_result_never_keeps_the_result_from_being_sent() -> None:
    reports = Reports(Timing(), lambda: None)
    session: Any = Narrow()
    reports.session = session
    for data in (b'{"n": 1}', b'{"n": "%b"}' % (b"x" * 900)):
        lease = Lease(f"t{len(data)}", "lease")
        reports.leases.take(lease)
        told = types_pb2.JobSummary(holon_id="h", job_id="j", status="x" * 200)
        reports.finish(lease, worker_pb2.TaskResult(status="success", data=types_pb2.Payload(data=data), summary=told))
    assert [one.result.status for one in session.sent] == ["success", "success"]
    assert [one.result.HasField("summary") for one in session.sent] == [True, False]
