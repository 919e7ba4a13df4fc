"""The ledger: a job that may kill its process runs alone."""

from __future__ import annotations

from holon.core.jobs import claim, release
from holon.core.rows import JobRow
from holon.core.tables import Tables
from holon.domain.job import Job
from holon.ports import StoreSettings
from holon.stores.records import encode_job

NOW = 0


def add(tables: Tables, name: str, deliveries: int = 0) -> None:
    """A job that is ready, and was delivered so often without a commit."""
    job = Job(f"0-{name}", "bp", "ann", {}, "start")
    row = JobRow(tables.number(job.id), job.id, job.owner, job.blueprint, str(job.status), encode_job(job), NOW, NOW)
    row.due, row.deliveries = True, deliveries
    tables.add_job(row)
    tables.mark_ready(row)


def test_what_cannot_be_claimed_beside_a_suspect_waits() -> None:
    tables = Tables(StoreSettings("n"))
    add(tables, "suspect", deliveries=1)
    [suspect] = claim(tables, 10)
    add(tables, "other")
    assert claim(tables, 10) == ()
    release(tables, suspect.job.id, suspect.claim_id, counted=False)
    assert [one.job.id for one in claim(tables, 10)] == ["0-other", "0-suspect"]


def test_a_suspect_waits_for_others_to_end() -> None:
    tables = Tables(StoreSettings("n"))
    add(tables, "runs")
    [runs] = claim(tables, 10)
    add(tables, "suspect", deliveries=1)
    add(tables, "other")
    assert claim(tables, 10) == ()
    release(tables, runs.job.id, runs.claim_id, counted=False)
    assert [one.job.id for one in claim(tables, 10)] == ["0-suspect"]
