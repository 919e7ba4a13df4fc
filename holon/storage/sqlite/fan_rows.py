"""The SQLite file: a fan-out's row as columns, and its chunks, which are not tasks yet.

A chunk's place is how many chunks there are from it to the end, so those that are gone have the greatest places.
"""

from __future__ import annotations

from typing import Any

from holon.ports import NewTask
from holon.storage.ledger.rows import FanOut
from holon.storage.records import decode_chunk, encode_chunk
from holon.storage.sealing import Seal

REPLACE = """
    INSERT OR REPLACE INTO fan_outs (
        n, step, total, fail_fast, pending, spawned, queued, failed, progress, bytes, over
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE = "DELETE FROM fan_outs WHERE n = ?"
SELECT_LIVE = """
    SELECT n, step, total, fail_fast, pending, spawned, queued, failed, progress, bytes, over FROM fan_outs
"""

INSERT_CHUNK = "INSERT INTO chunks (n, place, chunk) VALUES (?, ?, ?)"
DELETE_CHUNKS = "DELETE FROM chunks WHERE n = ? AND place > ?"
SELECT_CHUNKS = "SELECT n, place, chunk FROM chunks ORDER BY n, place DESC"


def replaced(fan: FanOut, n: int) -> tuple[Any, ...]:
    """What `REPLACE` takes. `n` is the number of the fan-out's job."""
    return (
        n,
        fan.step,
        fan.total,
        int(fan.fail_fast),
        fan.pending,
        fan.spawned,
        fan.queued,
        fan.failed,
        fan.progress,
        fan.bytes,
        int(fan.over),
    )


def chunks(fan: FanOut, n: int, seal: Seal) -> list[tuple[Any, ...]]:
    """What `INSERT_CHUNK` takes, for each chunk of a fan-out."""
    last = len(fan.chunks)
    return [
        (n, place, seal.seal("chunks", fan.job_id, place, encode_chunk(chunk, fan.dispatched)))
        for place, chunk in zip(range(last, 0, -1), fan.chunks, strict=True)
    ]


def opened_chunk(job_id: str, place: int, chunk: bytes, seal: Seal) -> tuple[tuple[NewTask, ...], int | None]:
    """A chunk from its columns, and when its fan-out was dispatched, if that was noted; raises as `Seal.open`."""
    return decode_chunk(seal.open("chunks", job_id, place, chunk))


def fan_row(columns: tuple[Any, ...], job_id: str, rest: tuple[tuple[NewTask, ...], ...], dispatched: int) -> FanOut:
    """A fan-out's row from its columns and its chunks."""
    _, step, total, fail_fast, *counts, over = columns
    fan = FanOut(job_id, step, total, bool(fail_fast), rest, dispatched, total)
    fan.pending, fan.spawned, fan.queued, fan.failed, fan.progress, fan.bytes = counts
    fan.over = bool(over)
    return fan
