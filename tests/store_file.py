"""The SQLite file of a store, as who knows its rows reads and changes it while no node has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from holon.core.codec import FAN, HEAD, INBOX, STATE, Codec
from holon.core.rows import OVER, JobRow, TaskRow
from holon.ports import Document
from holon.storage.shared_records import DOCUMENT
from holon.stores.sealing import Seal


def rows(file: Path, names: str, job_id: str = "*") -> dict[tuple[str, str], bytes]:
    """Rows by job and name.

    Arguments:
        names, job_id: which, as patterns of GLOB.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT job, name, value FROM row WHERE name GLOB ? AND job GLOB ?", (names, job_id))
        return {(job, name): value for job, name, value in found}


def put(file: Path, changed: Mapping[tuple[str, str], bytes]) -> None:
    """Write rows that are there."""
    with closing(sqlite3.connect(file)) as db, db:
        for (job, name), value in changed.items():
            count = db.execute("UPDATE row SET value = ? WHERE job = ? AND name = ?", (value, job, name)).rowcount
            assert count == 1, f"there is no row {name!r} of job {job!r}"


def flipped(value: bytes) -> bytes:
    """A row whose last bit is another."""
    return value[:-1] + bytes([value[-1] ^ 1])


def documents(file: Path, kind: str = "*") -> list[Document]:
    """The documents of a kind, as they are stored."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        found = db.execute(
            "SELECT kind, key, version, value, expires_at FROM record WHERE kind GLOB ?", (DOCUMENT + kind,)
        )
        return [Document(of_kind.removeprefix(DOCUMENT), *rest) for of_kind, *rest in found]


def jobs(file: Path) -> list[JobRow]:
    """All jobs, without their fan-outs, of a store that is not sealed."""
    codec = Codec(Seal())
    states, inboxes = rows(file, STATE), rows(file, INBOX)
    return [
        codec.job(head, states[job_id, STATE], inboxes.get((job_id, INBOX)))
        for (job_id, _), head in rows(file, HEAD).items()
    ]


def open_tasks(file: Path) -> list[TaskRow]:
    """All tasks that are not over, of a store that is not sealed."""
    codec = Codec(Seal())
    tasks = []
    for (job_id, name), value in rows(file, "task.*").items():
        _, step, index = name.split(".")
        tasks.append(codec.opened_task(job_id, int(step), int(index), value))
    return [one for one in tasks if one.state is not OVER]


def left(file: Path) -> list[str]:
    """What is still in a store that must not be, once every job is over and every node has gone."""
    known = jobs(file)
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        (live,) = db.execute("SELECT count(*) FROM entry WHERE name = 'live'").fetchone()
        (sound,) = db.execute("PRAGMA integrity_check").fetchone()
    counts = {
        "jobs are not over": sum(not job.over for job in known),
        "jobs are in the index of those that are not over": live,
        "jobs are over and have an inbox": sum(job.over and bool(job.inbox) for job in known),
        "jobs are over and wait for a timer": sum(job.over and job.wake_at is not None for job in known),
        "tasks are not over": len(open_tasks(file)),
        "chunks of fan-outs wait": len(rows(file, "chunk.*")),
        "fan-outs are not over": len(rows(file, FAN)),
        "tasks of the parent's are not settled": sum(one.expires_at is None for one in documents(file, "delegations")),
    }
    broken = [] if sound == "ok" else [f"the file is broken: {sound}"]
    return [f"{count} {what}" for what, count in counts.items() if count] + broken
