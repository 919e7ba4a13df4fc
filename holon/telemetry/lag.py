"""Telemetry: how late the event loop is with what was to be done by now."""

from __future__ import annotations

import asyncio

from holon.telemetry.metrics import SHORT
from holon.telemetry.series import Histogram

EVERY_S = 0.5


class LoopLag:
    """Looks at the clock twice a second: what held the loop up shows as lateness."""

    def __init__(self) -> None:
        self.lag = Histogram("holon_loop_lag_seconds", "How late the event loop was, measured twice a second.", SHORT)

    def __repr__(self) -> str:
        return f"LoopLag({self.lag!r})"

    async def run(self) -> None:
        """Observe until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.lag.observe(max(0.0, loop.time() - due))
