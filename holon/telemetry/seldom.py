"""What happens again and again, in the log: once a minute for a reason, however many jobs or workers it happens to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

EVERY_S = 60.0
# So many reasons are told apart in that time.
MOST = 256


class Seldom:
    """Logs as warnings what others would log for each call: where a store is away, these are many a second.

    Arguments:
        log: where.
        now: the time in seconds, of a clock that is not set back.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._now = now
        # By what is said and why: when it was, and how often it was not since.
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"Seldom({self._log.name}, said={len(self._said)})"

    def warn(self, message: str, *args: object, why: str, **facts: str) -> None:
        """Log a message and why; for debugging alone, if the same was said in the last minute of whatever else.

        Arguments:
            message: what happened, with a place for each of `args`.
            facts: the fields of the line.
        """
        now, key = self._now(), (message, why)
        last, more = self._said.get(key, (now - EVERY_S, 0))
        if len(self._said) >= MOST:
            self._said = {one: told for one, told in self._said.items() if now - told[0] < EVERY_S}
        if now - last < EVERY_S:
            self._said[key] = last, more + 1
        elif len(self._said) < MOST:
            self._said[key] = now, 0
            often = f"; {more} more since the last log line" if more else ""
            self._log.warning(f"{message}: %s%s", *args, why, often, extra=facts)
            return
        self._log.debug(f"{message}: %s", *args, why, extra=facts)
