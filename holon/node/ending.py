"""The end of a process that belongs to a node alone: nothing in it may hold that up for ever."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

log = logging.getLogger(__name__)

# What has been told to end has so many seconds to let go of its jobs and to close the store.
LAST_S = 10.0
# And where it is to end at once.
AT_ONCE_S = 2.0
# Why it is left as it is may take so long to say, with so many names of what still ran.
_SAID_S = 1.0
_NAMES = 20


class LastResort:
    """Ends the process where it stands, if it is not over by then.

    A handler may not let itself be cancelled, and Python waits for the threads that one has begun: neither can be ended
    from within. What ran then runs again, as after a crash.

    Arguments:
        real: False where the process is others' too: then nothing happens to it.
    """

    def __init__(self, *, real: bool = True) -> None:
        self._real = real
        self._ends = math.inf
        self._timer: threading.Timer | None = None

    def within(self, seconds: float) -> None:
        """The process is to be over in so many seconds; of several such words the earliest end counts."""
        ends = time.monotonic() + seconds
        if self._real and ends < self._ends:
            self.over()
            self._ends, self._timer = ends, threading.Timer(seconds, _leave, (seconds, _loop()))
            self._timer.daemon = True
            self._timer.start()

    def over(self) -> None:
        """What had to end has ended."""
        if self._timer is not None:
            self._timer.cancel()


_ours: ContextVar[LastResort] = ContextVar("last_resort")


@contextmanager
def alone() -> Iterator[None]:
    """While this is entered the process belongs to the node that is run in it."""
    ours = LastResort()
    token = _ours.set(ours)
    try:
        yield
    finally:
        ours.over()
        _ours.reset(token)


def last_resort() -> LastResort:
    """That of the process; where it does not belong to a node alone, one that does nothing."""
    return _ours.get(None) or LastResort(real=False)


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _leave(seconds: float, loop: asyncio.AbstractEventLoop | None) -> None:
    # Who reads the log may stand still as well.
    last_words = threading.Thread(target=_say, args=(seconds, loop), name="last-words", daemon=True)
    last_words.start()
    last_words.join(_SAID_S)
    os._exit(1)


def _say(seconds: float, loop: asyncio.AbstractEventLoop | None) -> None:
    said = (
        "these did not end within %g s; the node stops without them, and their work runs again later (tasks: %s; "
        "threads: %s)"
    )
    with suppress(Exception):
        threads = {one.name for one in threading.enumerate() if not one.daemon}
        log.critical(said, seconds, _told(_tasks(loop)), _told(threads))
        logging.shutdown()
        sys.stdout.flush()


def _tasks(loop: asyncio.AbstractEventLoop | None) -> set[str]:
    """What tasks are called; those that nobody gave a name, by what they run."""
    names = set()
    for task in asyncio.all_tasks(loop) if loop is not None else ():
        name = task.get_name()
        names.add(getattr(task.get_coro(), "__qualname__", name) if name.startswith("Task-") else name)
    return names


def _told(names: set[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return (", ".join(sorted(names)[:_NAMES]) or "none") + more
