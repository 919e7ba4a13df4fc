"""How a node stands to its server: what the time is there, and whether it has been there without a break."""

from __future__ import annotations

import time

from holon.clock import SystemClock

# Who has looked at least so often, for so long, may say of others that they have not (seconds).
GAP_S = 5.0
WATCHFUL_AFTER_S = 30.0


class ServersTime:
    """The server's clock, told from its last answer and this machine's own; it never goes backwards."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._ahead = 0
        self._latest = 0

    def __repr__(self) -> str:
        return f"ServersTime(now_ms={self.now_ms()})"

    def heard(self, now_ms: int) -> None:
        """It was this time at the server just now, in epoch milliseconds."""
        self._ahead = now_ms - self._clock.now_ms()

    def now_ms(self) -> int:
        """About what time it is there, in epoch milliseconds."""
        self._latest = max(self._latest, self._clock.now_ms() + self._ahead)
        return self._latest


class Presence:
    """Whether this node has been at its server for long enough to tell who has not.

    After the server itself was away, every node seems late to the first that is back.
    """

    def __init__(self) -> None:
        self._since = self._last = time.monotonic()

    def __repr__(self) -> str:
        return f"Presence({time.monotonic() - self._since:.0f} s)"

    def looked(self, anew: bool) -> bool:
        """This node looks again, on a new connection or not; whether it has done so for long without a break."""
        now = time.monotonic()
        if anew or now - self._last > GAP_S:
            self._since = now
        self._last = now
        return now - self._since >= WATCHFUL_AFTER_S
