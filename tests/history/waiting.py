"""What the tests of history wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

GUARD_S = 60.0


async def until(condition: Callable[[], object]) -> None:
    """Let others run until a condition holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < GUARD_S, "it never came to that"
        await asyncio.sleep(0.002)
