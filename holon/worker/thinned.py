"""The worker SDK: reports that any thread asks for, made in the stream's loop and no more often than so."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from holon.worker.threads import Mailbox


class Thinned:
    """Asks from any thread, brought together.

    Arguments:
        mailbox: leads to the stream's loop.
        report: makes a report of all that there is; called in the stream's loop.
        every: least time between two reports, in seconds.

    Attributes:
        pending: whether a report was asked for, and is yet to be made.
    """

    def __init__(self, mailbox: Mailbox, report: Callable[[], None], every: float) -> None:
        self._mailbox = mailbox
        self._report = report
        self._every = every
        self.pending = False
        self._last = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def ask(self) -> None:
        """There is something to report. Never blocks; any thread may call it."""
        if not self.pending:
            self.pending = True
            self._mailbox.post(self._due)

    def end(self) -> bool:
        """Report nothing more; False where that was said before. Called in the stream's loop."""
        if self._ended:
            return False
        self._ended = True
        if self._timer:
            self._timer.cancel()
        return True

    def _due(self) -> None:
        if self._ended:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + self._every - loop.time()
        if wait > 0:
            self._timer = loop.call_later(wait, self._flush, loop)
        else:
            self._flush(loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        # Cleared before the report is made: what comes later is a report of its own.
        self.pending = False
        self._last = loop.time()
        self._report()
