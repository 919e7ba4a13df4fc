"""A process that belongs to a node alone: its event loop, and how its memory is looked after."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# A job's objects live for milliseconds, many at a time: the default of 700 new ones would have the collector walk
# them all the time, for cycles that hardly exist.
THRESHOLDS = (50_000, 50, 100)


def run_alone(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where it exists, in a process whose collector is set for a node.

    Returns:
        What the coroutine returns. It raises what that raises.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop
