"""A process that belongs to a node alone: its event loop, and how its memory is looked after."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from holon.node.ending import alone

T = TypeVar("T")

# A job's objects live for milliseconds, many at a time: the default of 700 new ones would have the collector walk them
# all the time, for cycles that hardly exist. With this many it walks a few times a minute under full load. What ends
# in cycles, as sessions and what gRPC makes for each call, is to be gone within minutes where little is done: hence few
# walks of the younger for one of the older, which CPython does not begin before there is a quarter more of those.
THRESHOLDS = (5_000, 5, 5)
# Each worker and each client is a file descriptor, and many systems give 1,024; each of up to four doors takes 10,000,
# which is a sixth of these, as much as a gRPC door may have.
DESCRIPTORS = 60_000


def run_alone(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where it exists, in a process whose collector is set for a node.

    A node that runs in it ends the process a few seconds after its own end, whatever then still goes on in it.

    Returns:
        What the coroutine returns. It raises what that raises.
    """
    _raise_descriptors()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    with alone(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _raise_descriptors() -> None:
    """Ask for room for every connection that the doors take, as far as the hard limit allows."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop
