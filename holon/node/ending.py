"""The end of a process that belongs to a node alone: nothing in it may hold that up for ever."""

from __future__ import annotations

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
# Why it is left as it is may take so long to say.
_SAID_S = 1.0


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
            self._ends, self._timer = ends, threading.Timer(seconds, _leave, (seconds,))
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


def _leave(seconds: float) -> None:
    # Who reads the log may stand still as well.
    last_words = threading.Thread(target=_say, args=(seconds,), name="last-words", daemon=True)
    last_words.start()
    last_words.join(_SAID_S)
    os._exit(1)


def _say(seconds: float) -> None:
    names = ", ".join(sorted(one.name for one in threading.enumerate() if not one.daemon))
    said = "not ended in %g s, and left as it is: what a handler began goes on, and runs again later (threads: %s)"
    with suppress(Exception):
        log.critical(said, seconds, names)
        logging.shutdown()
        sys.stdout.flush()
