"""The ledger: what is read of all its rows costs no look into each."""

from __future__ import annotations

import pytest

from holon.clock import ManualClock
from holon.core import reads
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, Status
from holon.ports import NewJob
from holon.storage.memory import MemoryStorage
from tests.claims import claimed


async def test_jobs_are_counted_as_they_are_seen_and_their_states_are_not_opened_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with MemoryStorage(clock=ManualClock()) as storage:
        jobs = [Job(f"0-{n}", "bp", "ann", {"n": n}, "start") for n in range(5)]
        await storage.create_jobs([NewJob(job, (HistoryEvent("job_created", 0),)) for job in jobs])
        await claimed(storage, 2)
        opened: list[bytes] = []
        monkeypatch.setattr(reads, "decode_job", opened.append)
        counts = await storage.counts()
        assert counts.jobs == {Status.PENDING: 3, Status.RUNNING: 2}
        assert opened == []
