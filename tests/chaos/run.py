"""Chaos: nodes, workers and clients as processes; what fails in real life; then calm, and the checker."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from holon.client import Client
from holon.errors import HolonError
from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from holon.stores.records import SCHEMA
from tests.chaos.checker import Broken, check
from tests.chaos.environment import environment
from tests.chaos.faults import Faults, Targets
from tests.chaos.life import Life
from tests.chaos.link import Link
from tests.chaos.notes import Notebook
from tests.chaos.record import Record, Told, read_jobs, read_notes
from tests.chaos.services import Service, history_of, service_of
from tests.chaos.story import shortest
from tests.chaos.worker import REPEATED

SLACK_S = 0.1
LOOK_S = 0.3
SETTINGS = {
    "API_PORT": "0",
    "GRPC_PORT": "0",
    "CLIENT_GRPC_PORT": "0",
    "HEARTBEAT_INTERVAL_SECONDS": "1",
    "WORKER_SILENCE_SECONDS": "2.5",
    "TASK_LEASE_SECONDS": "3",
    "TASK_OFFER_SECONDS": "1",
    "JOB_MAX_RETRIES": "20",
    "RETRY_BACKOFF_MIN_SECONDS": "0.1",
    "RETRY_BACKOFF_MAX_SECONDS": "1",
    # What is over stays, so that all of it can be checked.
    "JOB_RETENTION": str(30 * 86_400),
    "SHUTDOWN_GRACE_SECONDS": "3",
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "text",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be.

    Attributes:
        seconds: how long things fail.
        seed: of all that is left to chance.
        storage: `sqlite://`, `redis://` or `postgresql://`.
        history: `postgres`, if history is moved there.
        jobs_per_s: how many each client makes.
        fault_every_s: seconds between two faults, on average.
        faults: the kinds that there are to be; empty means all.
        calm_s: how long after the last fault a job may go on at most; then it is told of as left.
        long: the share of tasks that outlast a lease.
        repeated: the share of results that are said again soon, or after their acknowledgement.
        broken: the promise that the nodes are to break, for the checker's own tests.
        newer: how many of the nodes are of a release that reads and writes the next schema of rows too.
    """

    seconds: float
    seed: int
    storage: str = "sqlite://"
    history: str = ""
    nodes: int = 1
    workers: int = 3
    clients: int = 2
    jobs_per_s: float = 5.0
    fault_every_s: float = 1.5
    faults: tuple[str, ...] = ()
    calm_s: float = 90.0
    long: float = 0.03
    repeated: float = REPEATED
    broken: str = ""
    newer: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to.

    Attributes:
        broken: the promises that did not hold.
        wrong: what else must not have happened.
        story: of the job that broke a promise with the fewest lines; empty when none did.
        ends: how the jobs ended, counted.
        faults: what was done, counted.
        seen: how often workers and clients noted what.
        calm_s: how long after the last fault every job was over.
    """

    broken: Sequence[Broken]
    wrong: Sequence[str]
    story: str
    ends: Counter[str]
    faults: Counter[str]
    seen: Counter[str]
    calm_s: float

    @property
    def good(self) -> bool:
        """Whether all held."""
        return not (self.broken or self.wrong)


@dataclass(slots=True)
class _Seen:
    """What the run itself learned of the nodes."""

    clocks: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    calm_s: float = 0.0


class Chaos:
    """One run.

    Arguments:
        folder: where files, notes and logs go.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._dice = random.Random(plan.seed)
        self._token = secrets.token_urlsafe(24)
        self._authority = open_authority(folder)
        self._ca = self._authority.files.certificate
        self._server = issue_server(self._authority, folder)
        self._certificates: dict[str, KeyPair] = {}
        self._skews: dict[str, float] = {}
        self._seen = _Seen()

    async def run(self) -> Verdict:
        """Run it; raises BenchError when it cannot be made."""
        plan = self._plan
        services = [service_of(plan.storage, self._folder, plan.nodes), *history_of(plan.history, plan.nodes)]
        faults: Counter[str] = Counter()
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service)
            targets = await self._everybody(stack, services)
            for life in (*targets.nodes, *targets.workers, *targets.clients):
                stack.push_async_callback(life.kill)
                await life.start()
            faults = await self._fail(targets)
            jobs = await self._calm(targets)
            lives = (*targets.nodes, *targets.workers, *targets.clients)
        wrong = [*self._seen.wrong, *(line for life in lives for line in (*life.wrong, *life.errors()[:5]))]
        left = [*self._seen.left, *(what for service in services for what in service.left())]
        own_time = any(service.own_time for service in services)
        clocks, slack_s = ((), SLACK_S) if own_time else (self._seen.clocks, 0.0)
        record = Record(read_notes(self._folder), jobs, left, clocks, slack_s)
        broken = check(record)
        ends = Counter(_end(told) for told in jobs.values())
        seen = Counter(note.what for notes in record.notes.values() for note in notes)
        return Verdict(broken, wrong, shortest(record, broken), ends, faults, seen, self._seen.calm_s)

    async def _fail(self, targets: Targets) -> Counter[str]:
        notes, plan = Notebook(self._folder, "chaos"), self._plan
        faults = Faults(targets, self._dice, plan.fault_every_s, notes, plan.faults)
        running = asyncio.create_task(faults.run(), name="faults")
        await asyncio.wait((running,), timeout=self._plan.seconds)
        running.cancel()
        await asyncio.wait((running,))
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
        return faults.counts

    # The end of it ---------------------------------------------------------------------------------------------------

    async def _calm(self, targets: Targets) -> dict[str, Told]:
        """Everybody is there and nothing fails: every job ends. Then all leave, and nothing is left."""
        for service in targets.services:
            await service.mend()
        began = time.monotonic()
        for life in (*targets.nodes, *targets.workers, *targets.clients):
            if not life.facts:
                await life.start()
        for client in targets.clients:
            await client.kill()
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(self._client(life.facts["client"])) for life in targets.nodes]
            await self._until_empty(nodes, _unfinished)
            self._seen.calm_s = time.monotonic() - began
            for worker in targets.workers:
                await worker.stop()
            await self._until_empty(nodes, _connected)
            jobs = await read_jobs(nodes)
        for node in targets.nodes:
            await node.stop()
        return jobs

    async def _until_empty(self, nodes: Sequence[Client], left: Callable[[Client], Awaitable[str]]) -> None:
        ends = time.monotonic() + self._plan.calm_s
        for node in nodes:
            while what := await _asked(left, node):
                if time.monotonic() > ends:
                    self._seen.left.append(f"{what} after {self._plan.calm_s:g} s of calm")
                    return
                await asyncio.sleep(LOOK_S)

    # Everybody -------------------------------------------------------------------------------------------------------

    async def _everybody(self, stack: AsyncExitStack, services: Sequence[Service]) -> Targets:
        """All that there is, not started yet, and the links between them."""
        plan = self._plan
        nodes = [self._node(number, services) for number in range(plan.nodes)]
        links: list[Link] = []

        async def linked(name: str, door: str) -> str:
            """Links from somebody to one door of each node, as the addresses that he is given."""
            own = [Link(f"{name}->{node.name}", _door(node, door)) for node in nodes]
            for link in own:
                await stack.enter_async_context(link)
            links.extend(own)
            return ",".join(f"grpcs://localhost:{link.port}" for link in own)

        workers = [self._worker(name, await linked(name, "worker")) for name in _names("worker", plan.workers)]
        clients = [self._teller(name, await linked(name, "client")) for name in _names("client", plan.clients)]
        return Targets(nodes, workers, clients, links, services, self._skews)

    def _node(self, number: int, services: Sequence[Service]) -> Life:
        name = f"node-{number}"

        def settings() -> dict[str, str]:
            return environment(
                SETTINGS | dict(chain(*(service.settings(number).items() for service in services))),
                CLIENT_TOKEN=self._token,
                INSTANCE_ID=name,
                TLS_CA_PATH=self._ca,
                TLS_CERT_PATH=self._server.certificate,
                TLS_KEY_PATH=self._server.key,
                CHAOS_SKEW_S=self._skews.get(name, 0.0),
                CHAOS_BREAK=self._plan.broken,
                # The older nodes are there first, as in an upgrade.
                CHAOS_READS=SCHEMA + (number >= self._plan.nodes - self._plan.newer),
            )

        return Life(name, "tests.chaos.node", settings, self._folder, self._started)

    def _started(self, facts: dict[str, Any]) -> None:
        self._seen.clocks.append((facts["node_ms"], facts["true_ms"]))

    def _worker(self, name: str, urls: str) -> Life:
        pair = issue_worker(self._authority, self._folder, name)

        def settings() -> dict[str, str]:
            return environment(
                self._chance(name),
                NODE_URL=urls,
                TLS_CA_PATH=self._ca,
                TLS_CERT_PATH=pair.certificate,
                TLS_KEY_PATH=pair.key,
                CHAOS_REPEATED=self._plan.repeated,
            )

        return Life(name, "tests.chaos.worker", settings, self._folder)

    def _teller(self, name: str, urls: str) -> Life:
        def settings() -> dict[str, str]:
            return environment(
                self._chance(name),
                CHAOS_NODES=urls,
                CHAOS_RATE=self._plan.jobs_per_s,
                CHAOS_LONG=self._plan.long,
                CLIENT_TOKEN=self._token,
                TLS_CA_PATH=self._ca,
            )

        return Life(name, "tests.chaos.client", settings, self._folder)

    def _chance(self, name: str) -> dict[str, str]:
        return {"CHAOS_NAME": name, "CHAOS_FOLDER": str(self._folder), "CHAOS_SEED": f"{self._plan.seed} {name}"}

    def _client(self, port: int) -> Client:
        return Client(f"grpcs://localhost:{port}", self._token, self._ca)


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]


def _door(node: Life, door: str) -> Callable[[], int | None]:
    return lambda: node.facts.get(door)


async def _asked(left: Callable[[Client], Awaitable[str]], node: Client) -> str:
    try:
        return await left(node)
    except HolonError as error:
        return f"no answer: {error}"


async def _unfinished(node: Client) -> str:
    stats = await node.node.stats()
    held = {**stats.jobs, "queued": stats.tasks_queued, "leased": stats.tasks_leased}
    return ", ".join(f"{count} {what}" for what, count in held.items() if count)


async def _connected(node: Client) -> str:
    stats = await node.node.stats()
    return f"{stats.sessions} sessions" if stats.sessions else ""


def _end(told: Told) -> str:
    job = told.job
    return job.status if job.error is None else f"{job.status} {job.error.code}"
