"""The bench: the side of a child process. It says when it is ready, answers what it used, and ends with its parent."""

from __future__ import annotations

import array
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


class Reporter:
    """Writes numbers to a pipe, those of one turn of the loop together."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._waiting = array.array("I")

    def add(self, number: int) -> None:
        """Report one number."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(number)

    def _flush(self) -> None:
        os.write(self._pipe, self._waiting)
        self._waiting = array.array("I")


async def obey(end: Callable[[], None], count: Callable[[], int] = int) -> None:
    """Answer each line of the parent with the CPU seconds used so far, the time and a count of what was done.

    Arguments:
        end: called once the parent is gone.
        count: what was done so far; nothing is counted by default.
    """
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        used = resource.getrusage(resource.RUSAGE_SELF)
        say(cpu=used.ru_utime + used.ru_stime, time=time.time(), count=count())
    end()
