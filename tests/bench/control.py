"""The bench: the side of a child process. It says when it is ready, answers what it used, and ends with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def stay_on(core: int | None) -> None:
    """Keep this process, and the threads that it will start, on one core; None leaves it where it is."""
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {core})


def say(**facts: Any) -> None:
    """Tell the parent one line."""
    print(json.dumps(facts), flush=True)  # noqa: T201  # the parent reads it


async def obey(end: Callable[[], None]) -> None:
    """Answer each line of the parent with the CPU seconds used so far and the time; call `end` once it is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        used = resource.getrusage(resource.RUSAGE_SELF)
        say(cpu=used.ru_utime + used.ru_stime, time=time.time())
    end()
