"""The bench: how long the disk itself takes to make a write durable. It blocks."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

_BLOCK = os.urandom(4096)
# What SQLite calls where there is it.
_sync = getattr(os, "fdatasync", os.fsync)


def fsync_times(folder: Path, count: int, every: float = 0.0) -> list[float]:
    """Append a block to a file and make it durable, `count` times.

    Arguments:
        folder: where the file is made and removed again.
        every: seconds from one write to the next; 0 writes back to back.
    Returns:
        the seconds that each took.
    """
    times = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        due = time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            file.write(_BLOCK)
            _sync(file.fileno())
            times.append(time.perf_counter() - began)
            due += every
    return times
