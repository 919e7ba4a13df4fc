"""The bench: one run. Node and limit are both up, and loaded in turn, so that a machine's moods meet both."""

from __future__ import annotations

import asyncio
import base64
import os
import platform
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holon.config import StorageURI
from tests.bench.disk import fsync_times
from tests.bench.fleet import Certificates
from tests.bench.process import BenchError
from tests.bench.quiet import WORKERS, Quiet, allow_files, quiet
from tests.bench.recovery import Recovery, recovery
from tests.bench.scenarios import RECOVERY, SCENARIOS, Figures, Jobs
from tests.bench.site import Site
from tests.bench.store_use import server_version
from tests.history.postgres import serving
from tests.redis_server import RedisServer

_NODES = ("tests.bench.echo_node", "tests.bench.node")
OWN_REDIS = "redis://"
OWN_POSTGRES = "postgresql://"
# What a node is measured beside: its doors alone, or itself with one thing less.
STRIPPED = "stripped"
PLAINTEXT = "plaintext"
UNENCRYPTED = "unencrypted"
ALONE = "alone"
_FSYNCS = 200
_FSYNCS_PER_SECOND = 20.0
_PACED_SECONDS = 3.0
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave.

    Attributes:
        nodes: how many there were.
        beside: what the limit is: one of the names above.
        depth: how many holons are below the node, in one line.
        node, limit: their figures, of all turns together; both of one kind. Recovery has no limit.
        fsyncs, paced_fsyncs: seconds that the disk took, back to back and at 20 a second; empty without a disk.
        synchronous: SQLite's setting; None for another store.
        cores: how many cores there are, and which is the first node's own, if it has one.
        server: the name and version of the store's server; None where it has none.
    """

    scenario: str
    storage: str
    nodes: int
    beside: str
    depth: int
    node: Figures | Quiet | Recovery
    limit: Figures | Quiet | None
    fsyncs: list[float]
    paced_fsyncs: list[float]
    synchronous: str | None
    cores: tuple[int, int | None]
    server: str | None = None
    python: str = platform.python_version()


async def run(
    name: str,
    storage: str,
    seconds: float,
    folder: Path,
    idle: int = WORKERS,
    nodes: int = 1,
    settings: Mapping[str, str] = {},
    *,
    beside: str = STRIPPED,
    depth: int = 0,
) -> Outcome:
    """Measure one scenario.

    Arguments:
        storage: the node's STORAGE_URI; a SQLite file must not be there yet, and for a bare `redis://` or
            `postgresql://` a server is started that ends with the run.
        seconds: how long each of node and limit is measured in all.
        folder: an empty one, for certificates and logs.
        idle: how many workers, where they are all there is.
        nodes: how many nodes share the store; the limit is one process always.
        settings: the nodes', where they are not the defaults; with recovery alone.
        beside: what the node is measured beside. PLAINTEXT is the same node in plaintext, with workers that show a
            token. UNENCRYPTED is the same node without a key; then the node has one. Each has a store of its own.
        depth: how many holons are below the node. With any, `beside` is ALONE, and both run on any core.
    Raises:
        BenchError: it cannot be run, a job did not end as it must, or a process logged an error.
        ConfigError: `storage` is no store.
    """
    if depth:
        beside = ALONE
    async with AsyncExitStack() as own:
        all_cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
        cores = (None,) if depth else _cores(all_cores, nodes)
        if taken := {core for core in cores if core is not None}:
            # Workers inherit it, and a server of our own.
            os.sched_setaffinity(0, set(all_cores) - taken)
            own.callback(os.sched_setaffinity, 0, all_cores)
        given, storage = storage, _own_server(own, storage) if storage in (OWN_REDIS, OWN_POSTGRES) else storage
        uri = StorageURI.parse(storage)
        _check(uri, name, nodes, itself=beside != STRIPPED)
        fsyncs: list[float] = []
        paced: list[float] = []
        if uri.path:
            uri.path.parent.mkdir(parents=True, exist_ok=True)
            fsyncs = fsync_times(uri.path.parent, _FSYNCS)
            count = round(min(seconds, _PACED_SECONDS) * _FSYNCS_PER_SECOND)
            paced = fsync_times(uri.path.parent, max(1, count), 1 / _FSYNCS_PER_SECOND)
        absolute = f"sqlite:///{uri.path.absolute()}?synchronous={uri.synchronous}" if uri.path else storage
        jobs = SCENARIOS[name].jobs
        certificates = Certificates.make(folder)
        node: Figures | Quiet | Recovery
        limit: Figures | Quiet | None = None
        server = await server_version(uri.server) if uri.server else None
        if name == RECOVERY:
            node = await recovery(absolute, folder, certificates, settings)
        else:
            echo, real = _NODES
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            other = f"sqlite:///{folder}/beside.db?synchronous={uri.synchronous}" if uri.path else storage
            sites = [
                Site(
                    echo if beside == STRIPPED else real,
                    jobs,
                    other,
                    folder,
                    None if beside == PLAINTEXT else certificates,
                    (cores[0],),
                ),
                Site(
                    real,
                    jobs,
                    absolute,
                    folder,
                    certificates,
                    cores,
                    depth,
                    {"ENCRYPTION_KEY": key} if beside == UNENCRYPTED else {},
                ),
            ]
            if jobs is None:
                allow_files(idle)
                limit, node = await _watched(sites, seconds, idle)
            else:
                limit, node = await _loaded(sites, jobs, seconds)
        synchronous = uri.synchronous if uri.path else None
        where = (len(all_cores) or os.cpu_count() or 1, cores[0])
        return Outcome(name, given, nodes, beside, depth, node, limit, fsyncs, paced, synchronous, where, server)


def _cores(all_cores: list[int], nodes: int) -> tuple[int | None, ...]:
    """A core for each node, where one is left for all that is no node; else none has one of its own."""
    return tuple(all_cores[:nodes]) if len(all_cores) > nodes else (None,) * nodes


def _own_server(stack: AsyncExitStack, kind: str) -> str:
    """Start a Redis with its log synced every second, or a PostgreSQL that syncs each commit, and return its URI."""
    if kind == OWN_POSTGRES:
        try:
            return stack.enter_context(serving(durable=True)).database()
        except AssertionError as error:
            raise BenchError(str(error)) from error
    try:
        server = RedisServer(append_only=True, options=("--appendfsync", "everysec"))
    except RuntimeError as error:
        raise BenchError(str(error)) from error
    stack.callback(server.close)
    return server.uri()


def _check(uri: StorageURI, name: str, nodes: int, *, itself: bool) -> None:
    if uri.path and uri.path.exists():
        raise BenchError(f"{uri.path} is there already, and only a new store tells what a run did; name another file")
    if itself and (uri.scheme == "redis" or uri.postgres):
        raise BenchError("a node and what it is beside share no store; leave --storage out, or give memory://")
    if uri.scheme not in ("redis", "postgresql") and (nodes > 1 or name == RECOVERY):
        raise BenchError(f"several nodes share no {uri.scheme} store; give --storage {OWN_REDIS} or {OWN_POSTGRES}")


async def _loaded(sites: list[Site], jobs: Jobs, seconds: float) -> list[Figures]:
    """Load sites in turn, and return the figures of each."""
    turns = 2 if seconds >= 2 else 1
    figures: list[list[Figures]] = [[] for _ in sites]
    async with _up(sites):
        for _ in range(turns):
            for site, found in zip(sites, figures, strict=True):
                async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
                    found.append(await jobs.drive(site, seconds / turns))
    return [sum(found[1:], found[0]) for found in figures]


async def _watched(sites: list[Site], seconds: float, workers: int) -> list[Quiet]:
    """Give each site so many idle workers, and watch all at one time: they hardly do anything."""
    async with _up(sites), asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        watching = [group.create_task(quiet(site, seconds, workers)) for site in sites]
    return [task.result() for task in watching]


@asynccontextmanager
async def _up(sites: list[Site]) -> AsyncIterator[None]:
    """Enter sites, the limit's first and the node's last.

    What goes wrong is told with what all logs say. An error that the node logged is one even where nothing else is.
    """
    try:
        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as group:
                for site in sites:
                    group.create_task(stack.enter_async_context(site))
            yield
    except (BenchError, OSError, TimeoutError, ExceptionGroup) as error:
        reason = f"not done within {_PATIENCE_SECONDS:g} s more" if isinstance(error, TimeoutError) else _first(error)
        logs = "\n".join(filter(None, (site.tails() for site in sites)))
        raise BenchError(f"{reason}\n{logs}".strip()) from error
    if logged := sites[-1].errors():
        raise BenchError(f"all was done, but the node logged these:\n{logged}")


def _first(error: BaseException) -> BaseException:
    """The error itself, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
