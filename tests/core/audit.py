"""What a node keeps beside its rows, and in the store, held against the rows: counts, queues, holds, timers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from holon.core.load import load
from holon.core.row import Row
from holon.core.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, JobRow, TaskRow
from holon.core.shard import ENDED, HISTORY, LIVE, Shard
from holon.core.tables import Tables
from holon.storage.owned import OwnedStorage

# What lives in memory only; a fan-out is compared as a row of its own.
MEMORY_ONLY = {"claim_id", "claim_until", "fan", "lease_until", "ready_seq", "reply", "spawn_at", "stored", "timer_at"}


async def audit(storage: OwnedStorage) -> None:
    """Check all of it, while nothing is to be written."""
    tables, now = storage._tables, storage.now()
    assert not tables.touched
    _only_what_lives(tables)
    _queues(tables)
    _ready(tables)
    _timers(tables)
    _holds(tables)
    for row in tables.jobs.values():
        _counts(tables, row)
    loaded = Tables(tables.settings, tables.shards)
    ended = 0
    for number in storage._shards:
        shard = Shard(number, loaded, storage._codec, storage._finished, lambda _: None)
        part = Tables(tables.settings, tables.shards)
        await load(storage._rows, shard, part, 0)
        loaded.absorb(part)
        ended += shard.ended
    for task in loaded.tasks.values():
        # A start gave what was held time to be heard of; that is stored once the task is written for something else.
        here = tables.tasks.get(task.id)
        if task.execution_due is not None and here is not None and here.execution_due is not None:
            task.execution_due = max(task.execution_due, here.execution_due)
    stored, known = _everything(loaded, now), _everything(tables, now)
    for what in known:
        assert stored[what].keys() == known[what].keys()
        for name in known[what]:
            assert stored[what][name] == known[what][name], name
    ready = {row.id for row in tables.jobs.values() if row.ready_seq or row.claim_id}
    other = {row.id for row in loaded.jobs.values() if row.ready_seq}
    assert other == ready, [_everything(tables, 0)["rows"][one] for one in other ^ ready]
    assert ended == sum(shard.ended for shard in storage._shards.values())
    await _left_behind(storage)


async def _left_behind(storage: OwnedStorage) -> None:
    """Every job is in the indexes where it belongs, and each page of history that is to be moved is there."""
    store, shards = storage._rows, storage._shards
    live = {one.member for one in await store.range(LIVE, list(shards), 0, 2**53, 10_000)}
    assert live == storage._tables.jobs.keys()
    over = {one.member for one in await store.range(ENDED, list(shards), 0, 2**53, 10_000)}
    assert len(over) == sum(shard.ended for shard in shards.values())
    assert not live & over
    unmoved = 0
    for one in await store.range(HISTORY, list(shards), 0, 2**53, 10_000):
        job_id, first, size = one.member.rsplit(":", 2)
        [page] = await store.read(one.shard, [(job_id, f"lines.{int(first)}")])
        assert page is not None
        assert len(page) == int(size)
        unmoved += len(page)
    assert sum(shard.unmoved for shard in shards.values()) == unmoved


def _everything(tables: Tables, now: int) -> dict[str, Any]:
    rows: dict[str, Row] = {**tables.jobs, **tables.tasks}
    fans = {row.id: _fields(row.fan) for row in tables.jobs.values() if row.fan is not None}
    for fan in fans.values():
        # It is stored with what is not spawned yet, for the sake of that.
        fan["dispatched"] = fan["chunks"] and fan["dispatched"]
        fan["queued"] = not fan["over"] and fan["queued"]
    waiting = {key: number for key, number in tables.backlog.waiting.items() if number}
    fields = {name: _fields(row) for name, row in rows.items()}
    for task in tables.tasks.values():
        fields[task.id]["avoid"] = tuple(one for one in task.avoid if one[1] > now)
    return {"rows": fields, "fans": fans, "waiting": waiting}


def _fields(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name not in MEMORY_ONLY}


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
