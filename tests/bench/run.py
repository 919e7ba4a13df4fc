"""The bench: one run. Node and limit are both up, and are loaded in turn, so that a machine's moods meet both."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from holon.config import StorageURI
from tests.bench.disk import fsync_times
from tests.bench.process import BenchError
from tests.bench.scenarios import SCENARIOS, Figures
from tests.bench.site import Certificates, Site

_FSYNCS = 200
_FSYNCS_PER_SECOND = 20.0
_PACED_SECONDS = 3.0
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave.

    Attributes:
        node, limit: their figures, of all turns together.
        fsyncs, paced_fsyncs: seconds that the disk took, back to back and at 20 a second; empty without a disk.
        synchronous: SQLite's setting; None for another store.
        cores: how many cores there are, and which is the node's own, if it has one.
    """

    scenario: str
    storage: str
    node: Figures
    limit: Figures
    fsyncs: list[float]
    paced_fsyncs: list[float]
    synchronous: str | None
    cores: tuple[int, int | None]
    python: str = platform.python_version()


async def run(scenario: str, storage: str, seconds: float, folder: Path) -> Outcome:
    """Measure one scenario.

    Arguments:
        storage: the node's STORAGE_URI; a SQLite file must not be there yet.
        seconds: how long each of node and limit is measured in all.
        folder: an empty one, for certificates and logs.
    Raises:
        BenchError: it cannot be run, or a job did not end as it must.
        ConfigError: `storage` is no store.
    """
    uri = StorageURI.parse(storage)
    if uri.path and uri.path.exists():
        raise BenchError(f"{uri.path} is there already, and only a new store tells what a run did; name another file")
    all_cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    core = all_cores[0] if len(all_cores) > 1 else None
    fsyncs: list[float] = []
    paced: list[float] = []
    if uri.path:
        uri.path.parent.mkdir(parents=True, exist_ok=True)
        fsyncs = fsync_times(uri.path.parent, _FSYNCS)
        count = round(min(seconds, _PACED_SECONDS) * _FSYNCS_PER_SECOND)
        paced = fsync_times(uri.path.parent, max(1, count), 1 / _FSYNCS_PER_SECOND)
    if core is not None and sys.platform == "linux":
        # Workers inherit it.
        os.sched_setaffinity(0, set(all_cores) - {core})
    absolute = f"sqlite:///{uri.path.absolute()}?synchronous={uri.synchronous}" if uri.path else storage
    node, limit = await _measure(scenario, absolute, seconds, folder, core)
    cores = (len(all_cores) or os.cpu_count() or 1, core)
    return Outcome(scenario, storage, node, limit, fsyncs, paced, uri.synchronous if uri.path else None, cores)


async def _measure(name: str, storage: str, seconds: float, folder: Path, core: int | None) -> tuple[Figures, Figures]:
    scenario = SCENARIOS[name]
    certificates = Certificates.make(folder)
    sites = [
        Site(module, scenario, storage, folder, certificates, core)
        for module in ("tests.bench.echo_node", "tests.bench.node")
    ]
    turns = 2 if seconds >= 2 else 1
    figures: list[list[Figures]] = [[], []]
    async with AsyncExitStack() as stack:
        try:
            for site in sites:
                await stack.enter_async_context(site)
            for _ in range(turns):
                for site, found in zip(sites, figures, strict=True):
                    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
                        found.append(await scenario.drive(site, seconds / turns))
        except (BenchError, OSError, TimeoutError, ExceptionGroup) as error:
            reason = (
                f"not done within {_PATIENCE_SECONDS:g} s more" if isinstance(error, TimeoutError) else _first(error)
            )
            logs = "\n".join(filter(None, (site.tails() for site in sites)))
            raise BenchError(f"{reason}\n{logs}".strip()) from error
    limit, node = (sum(found[1:], found[0]) for found in figures)
    return node, limit


def _first(error: BaseException) -> BaseException:
    """The error itself, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
