"""The bench: a node with many workers and nothing for them to do; what each costs it in memory and in CPU."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.process import BenchError

if TYPE_CHECKING:
    from tests.bench.site import Site

WORKERS = 1000
# Workers that are there before the others are counted: what the very first brings up, no other brings again.
_FIRST = 2
_PROCESSES = 2
# Descriptors of a process beside its workers' sockets.
_OTHER_FILES = 200
# The node's memory: from one look to the next, what is no change, and the most looks.
_LOOK_SECONDS = 0.25
_STILL_KIB = 64
_MAX_LOOKS = 20


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a window without any job gave.

    Attributes:
        seconds: how long it was.
        workers: how many were connected.
        memory_kib: by how much their coming had made the node grow.
        heartbeats: how many the node answered in it.
        node_cpu, workers_cpu: the CPU seconds that each side used in it.
    """

    seconds: float
    workers: int
    memory_kib: int
    heartbeats: int
    node_cpu: float
    workers_cpu: float


async def quiet(site: Site, seconds: float, workers: int) -> Quiet:
    """Connect workers that only send heartbeats, and watch the node for so many seconds.

    Raises:
        BenchError: one of them could not connect, or was sent away; or this system does not tell a process's memory.
    """
    await site.add_idle(0, _FIRST)
    alone = await _settled(site)
    shares = [len(range(index, workers, _PROCESSES)) for index in range(_PROCESSES)]
    first = _FIRST
    for share in shares:
        await site.add_idle(first, share)
        first += share
    grown = await _settled(site) - alone
    before, workers_before = await site.usage()
    await asyncio.sleep(seconds)
    after, workers_after = await site.usage()
    return Quiet(
        after.time - before.time,
        workers,
        grown,
        workers_after.count - workers_before.count,
        after.cpu - before.cpu,
        workers_after.cpu - workers_before.cpu,
    )


def allow_files(workers: int) -> None:
    """Let this process, and those that it starts, have a descriptor for each of so many workers.

    Raises:
        BenchError: the system's hard limit is too low.
    """
    needed = workers + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"{workers} workers need {needed} open files, and the hard limit here is {hard}: raise it (ulimit -Hn), "
            "or take fewer with --workers"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _settled(site: Site) -> int:
    """How many KiB the node has, once that stays for a moment."""
    memory = site.resident_kib()
    for _ in range(_MAX_LOOKS):
        await asyncio.sleep(_LOOK_SECONDS)
        before, memory = memory, site.resident_kib()
        if abs(memory - before) <= _STILL_KIB:
            break
    return memory
