"""The worker SDK: a handler's `progress`, from any thread, thinned out so that the newest wins."""

from __future__ import annotations

import math
from collections.abc import Callable

from holon.worker.outcome import text_of
from holon.worker.thinned import Thinned
from holon.worker.threads import Mailbox


class Progress:
    """A handler's `progress(percent, message="")`.

    Arguments:
        mailbox: leads to the stream's loop.
        report: takes percent (0-100, or None) and message; called in the stream's loop.
        every: least time between two reports, in seconds; what came between is replaced by the newest.
    """

    def __init__(self, mailbox: Mailbox, report: Callable[[float | None, str], None], every: float) -> None:
        self._report = report
        self._newest: tuple[float | None, str] = (None, "")
        self._thinned = Thinned(mailbox, self._say, every)

    def __call__(self, percent: float | None, message: str = "") -> None:
        """Say how far the task is. Never blocks; any thread may call it, as often as it likes.

        Arguments:
            percent: 0 to 100, cut to that; None when only the message is news.
            message: one line for people.
        """
        if percent is not None:
            percent = None if math.isnan(percent) else min(100.0, max(0.0, float(percent)))
        self._newest = (percent, text_of(message))
        self._thinned.ask()

    def end(self, *, last: bool = False) -> None:
        """Report nothing more: the task is about to have its final word. Called in the stream's loop.

        Arguments:
            last: whether the newest is reported first, if it waits.
        """
        if self._thinned.end() and last and self._thinned.pending:
            self._say()

    def _say(self) -> None:
        self._report(*self._newest)
