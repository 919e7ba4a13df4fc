"""What the ledger keeps beside its rows, and in the file, held against the rows: counts, queues, holds, timers."""

from __future__ import annotations

from collections import Counter

from holon.storage.ledger.row import Row
from holon.storage.ledger.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, JobRow, TaskRow
from holon.storage.ledger.tables import Tables
from holon.storage.sealing import Seal
from holon.storage.sqlite.loading import load
from holon.storage.sqlite.sheets import Sheets
from holon.storage.sqlite.work import Ledger

_LIVE = "(SELECT n FROM jobs WHERE finished_at = 0)"
# Rows that are nobody's any more.
_LEFT_BEHIND = (
    *(f"SELECT 1 FROM {table} WHERE job NOT IN (SELECT n FROM jobs)" for table in ("tasks", "history", "endings")),
    "SELECT 1 FROM lates WHERE job NOT IN (SELECT n FROM jobs)",
    "SELECT 1 FROM states WHERE n NOT IN (SELECT n FROM jobs)",
    "SELECT 1 FROM chunks WHERE n NOT IN (SELECT n FROM fan_outs)",
    "SELECT 1 FROM tasks WHERE key NOT IN (SELECT key FROM needs)",
    f"SELECT 1 FROM fan_outs WHERE n NOT IN {_LIVE}",
    f"SELECT 1 FROM sheets WHERE job NOT IN {_LIVE}",
    f"SELECT 1 FROM tasks WHERE state <> 'over' AND job NOT IN {_LIVE}",
)
_UNMOVED = "SELECT coalesce(sum(length(events)), 0) FROM history"


def audit(ledger: Ledger) -> int:
    """Check all of it between two transactions; answers with how many bytes of history are in the file."""
    tables, db = ledger.tables, ledger.visitors._db
    assert not tables.changed
    assert not tables.notices
    _only_what_lives(tables)
    _queues(tables)
    _ready(tables)
    _timers(tables)
    _holds(tables)
    for row in tables.jobs.values():
        _counts(tables, row)
    loaded = Tables(tables.settings)
    load(db, loaded, Sheets(), Sheets(), Seal(), 0)
    assert _shared(loaded) == _shared(tables)
    assert [query for query in _LEFT_BEHIND if db.execute(query).fetchone()] == []
    return int(db.execute(_UNMOVED).fetchone()[0])


def everything(tables: Tables) -> dict[str, object]:
    """All that a transaction that failed has to leave as it was; timers may be noted anew."""
    rows: dict[str, Row] = {**tables.jobs, **tables.tasks}
    fans = {f"fan {row.id}": row.fan for row in tables.jobs.values() if row.fan is not None}
    # A worker that was never heard of may be known by its name.
    workers = {f"worker {one.id}": one for one in tables.workers.values() if one.session_id or one.held}
    fields = {name: _fields(row) for name, row in {**rows, **fans, **workers}.items()}
    for name, worker in workers.items():
        fields[name]["held"] = dict(worker.held)
    return {**fields, "shared": _shared(tables), "claimed": set(tables.claimed), "alone": tables.alone}


def _fields(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name not in ("timer_at", "fan")}


def _only_what_lives(tables: Tables) -> None:
    assert not tables.lates
    assert not any(row.over for row in tables.jobs.values())
    assert not any(row.state is OVER or row.job_id not in tables.jobs for row in tables.tasks.values())
    requests = {(row.owner, row.request_id): row.id for row in tables.jobs.values()}
    assert tables.requests.items() <= requests.items()


def _queues(tables: Tables) -> None:
    backlog = tables.backlog
    waiting = Counter(row.key for row in tables.tasks.values() if row.state is QUEUED)
    assert backlog.waiting == waiting
    assert backlog.needs.keys() == waiting.keys() == backlog._queues.keys()
    for key, count in waiting.items():
        assert len({entry for entry in backlog._queues[key] if backlog._row(key, entry)}) == count


def _ready(tables: Tables) -> None:
    assert tables.claimed == {row.id for row in tables.jobs.values() if row.claim_id}
    queued = {*tables.ready, *tables.suspects}
    for row in tables.jobs.values():
        assert bool(row.ready_seq or row.claim_id) == bool(row.due or row.inbox)
        assert not row.ready_seq or (row.id, row.ready_seq) in queued


def _timers(tables: Tables) -> None:
    entries = {(due, name) for due, _, _, name in tables._timers}
    rows: list[JobRow | TaskRow] = [*tables.jobs.values(), *tables.tasks.values()]
    for row in rows:
        due = row.next_time()
        assert row.timer_at is None or (row.timer_at, row.id) in entries
        assert due is None or (row.timer_at is not None and row.timer_at <= due)


def _holds(tables: Tables) -> None:
    held = {(worker.id, lease): task for worker in tables.workers.values() for lease, task in worker.held.items()}
    under = {(row.worker_id, row.lease_id): row.id for row in tables.tasks.values() if row.state in (OFFERED, LEASED)}
    assert under.items() <= held.items()
    # What was stopped counts until its worker's last word, which one that is away does not speak.
    away = {worker.id for worker in tables.workers.values() if not worker.live}
    assert {lease for lease in held if lease[0] in away} <= under.keys()
    assert all(worker.live or worker.held or not worker.session_id for worker in tables.workers.values())


def _counts(tables: Tables, row: JobRow) -> None:
    tasks = [task for task in tables.tasks.values() if task.job_id == row.id]
    fan = row.fan
    later = [] if fan is None else [new for chunk in fan.chunks for new in chunk]
    assert row.reserved == sum(task.reserved for task in tasks) + sum(new.reserves or 0 for new in later)
    if fan is not None and not fan.over:
        assert fan.queued == sum(task.state in (QUEUED, BACK_OFF) for task in tasks)
        assert fan.pending == len(tasks) + len(later)
        assert fan.spawned == fan.total - len(later)


def _shared(tables: Tables) -> dict[tuple[str, ...], dict[str, object]]:
    documents = [row for of_kind in tables.documents.values() for row in of_kind.values()]
    rows: dict[tuple[str, ...], Row] = {("document", row.kind, row.key): row for row in documents}
    rows |= {("quota", row.key, row.period): row for row in tables.quotas.values()}
    return {name: _fields(row) for name, row in rows.items()}
