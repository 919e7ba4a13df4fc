"""The soak: a node, and everybody who comes and goes at its doors, for a while; then what is left is counted."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from holon.client import Client
from holon.rxon.v1 import node_pb2
from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from tests.bench.process import Child
from tests.soak.clients import Clients
from tests.soak.measure import Growth, Sample, Watch, sample
from tests.soak.raw import RawWorker

SDK_WORKERS = 3
RAW_WORKERS = 5
STORIES_PER_S = 12.0
# Twice what a lost lease takes to come back, and every connection to close.
SETTLED_S = 60.0
# Without work for so long, a node moves the log of its file into it.
LOG_IDLE_S = 1.0
SETTINGS = {
    "API_PORT": "0",
    "GRPC_PORT": "0",
    "CLIENT_GRPC_PORT": "0",
    "HEARTBEAT_INTERVAL_SECONDS": "1",
    "WORKER_SILENCE_SECONDS": "3",
    "TASK_LEASE_SECONDS": "5",
    "TASK_OFFER_SECONDS": "2",
    "JOB_MAX_RETRIES": "10",
    "RETRY_BACKOFF_MIN_SECONDS": "0.1",
    "RETRY_BACKOFF_MAX_SECONDS": "1",
    # Some of its workers answer with anything, and go on being asked.
    "REPUTATION_MIN_THRESHOLD": "0",
    # What is over is gone after a while, as in a node that runs for years.
    "JOB_RETENTION": "60",
    "LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak came to: how stories ended, who was there, what the node held, and what must not have happened."""

    seconds: float
    ends: Counter[str]
    workers: Counter[str]
    before: Sample
    after: Sample
    growth: Growth
    node_cpu: float
    wrong: list[str]


class Soak:
    """One soak.

    Arguments:
        seconds: how long everybody comes and goes.
        seed: of all that is left to chance here.
        folder: where files and logs go.
    """

    def __init__(self, seconds: float, seed: int, folder: Path) -> None:
        self._seconds = seconds
        self._dice = random.Random(seed)
        self._folder = folder
        self._token = secrets.token_urlsafe(24)
        self._authority = open_authority(folder)
        self._ca = self._authority.files.certificate
        self._certificates: dict[str, KeyPair] = {}
        self._workers: Counter[str] = Counter()

    async def run(self) -> Outcome:
        """Run it; raises BenchError when it cannot begin."""
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(self._node())
            client = Client(f"grpcs://localhost:{node.facts['client']}", self._token, self._ca)
            await stack.enter_async_context(client)
            clients = Clients(client, self._dice, STORIES_PER_S)
            await self._warm(node, client)
            before = sample(node.pid)
            watch = Watch(node.pid)
            began = time.monotonic()
            await self._everybody(node, clients, watch)
            wrong = await self._settle(node, clients)
            after = await self._emptied(node, before)
            used = await node.usage()
            seconds = time.monotonic() - began
        wrong += clients.wrong + node.errors().splitlines()[:20]
        growth = Growth.of(watch.samples, warm_up=min(240.0, self._seconds / 2))
        return Outcome(seconds, clients.ends, self._workers, before, after, growth, used.cpu, wrong)

    async def _warm(self, node: Child, client: Client) -> None:
        """What the first job and the first worker need is there before anything is counted."""
        async with self._worker(node, 0):
            job = await client.create_job("one", {"n": 0})
            await client.wait_for(job.job_id, timeout=SETTLED_S)
        # And what the store opens when it is idle for the first time.
        await asyncio.sleep(2 * LOG_IDLE_S)

    async def _everybody(self, node: Child, clients: Clients, watch: Watch) -> None:
        """All of them, until the time is over; the clients' stories still go on then."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch.run()), group.create_task(clients.run())]
            tasks += [group.create_task(self._sdk_worker(node, number)) for number in range(SDK_WORKERS)]
            tasks += [group.create_task(self._raw_worker(node, number).run()) for number in range(RAW_WORKERS)]
            await asyncio.sleep(self._seconds)
            for task in tasks:
                task.cancel()

    async def _sdk_worker(self, node: Child, number: int) -> None:
        """A process that is drained or killed now and then, and started again."""
        while True:
            async with self._worker(node, number) as worker:
                await asyncio.sleep(2.0 + self._dice.random() * 20.0)
                if self._dice.random() < 0.5:
                    self._workers["killed"] += 1
                    os.kill(worker.pid, signal.SIGKILL)
                else:
                    self._workers["drained"] += 1

    def _raw_worker(self, node: Child, number: int) -> RawWorker:
        pair = self._certificate(f"raw-{number}")
        trust = grpc.ssl_channel_credentials(
            self._ca.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        )
        target = f"localhost:{node.facts['worker']}"
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        dice = random.Random(self._dice.random())
        return RawWorker(lambda: grpc.aio.secure_channel(target, trust, options=options), dice, self._workers)

    async def _settle(self, node: Child, clients: Clients) -> list[str]:
        """With workers that stay, every story ends; then nothing of any job or worker is left."""
        async with AsyncExitStack() as stack:
            for number in range(SDK_WORKERS):
                await stack.enter_async_context(self._worker(node, number))
            await clients.finish()
        async with self._asked(node) as ask:
            ends = time.monotonic() + SETTLED_S
            while (left := _left(await ask())) and time.monotonic() < ends:  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.5)
        return [f"left over: {left}"] if left else []

    @asynccontextmanager
    async def _asked(self, node: Child) -> AsyncIterator[Any]:
        trust = grpc.ssl_channel_credentials(self._ca.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{node.facts['client']}", trust) as channel:
            stats: Any = channel.unary_unary(
                "/holon.rxon.v1.NodeService/GetStats",
                request_serializer=node_pb2.GetStatsRequest.SerializeToString,
                response_deserializer=node_pb2.GetStatsResponse.FromString,
            )
            yield lambda: stats(node_pb2.GetStatsRequest(), metadata=(("x-client-token", self._token),))

    async def _emptied(self, node: Child, before: Sample) -> Sample:
        """A sample when the connections of all who went are closed."""
        ends = time.monotonic() + SETTLED_S
        while (now := sample(node.pid)).files > before.files and time.monotonic() < ends:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.5)
        return now

    # Processes ---------------------------------------------------------------------------------------------------

    def _node(self) -> Child:
        server = issue_server(self._authority, self._folder)
        settings = SETTINGS | {
            "CLIENT_TOKEN": self._token,
            "STORAGE_URI": f"sqlite:///{self._folder / 'soak.db'}",
            "TLS_CA_PATH": str(self._ca),
            "TLS_CERT_PATH": str(server.certificate),
            "TLS_KEY_PATH": str(server.key),
        }
        return Child("tests.soak.node", (), _environment(settings), self._folder / "node.log")

    def _worker(self, node: Child, number: int) -> Child:
        pair = self._certificate(f"sdk-{number}")
        settings = {
            "NODE_URL": f"grpcs://localhost:{node.facts['worker']}",
            "TLS_CA_PATH": str(self._ca),
            "TLS_CERT_PATH": str(pair.certificate),
            "TLS_KEY_PATH": str(pair.key),
        }
        return Child("tests.soak.worker", (), _environment(settings), self._folder / f"worker-{number}.log")

    def _certificate(self, worker_id: str) -> KeyPair:
        if worker_id not in self._certificates:
            self._certificates[worker_id] = issue_worker(self._authority, self._folder, worker_id)
        return self._certificates[worker_id]


def _left(stats: node_pb2.GetStatsResponse) -> str:
    """What is not over, or still held, as the node counts it; empty when there is nothing."""
    held = {
        "queued": stats.tasks_queued,
        "leased": stats.tasks_leased,
        "sessions": stats.sessions,
        **{one.status: one.count for one in stats.jobs},
    }
    return ", ".join(f"{count} {what}" for what, count in held.items() if count)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """A process's variables: what it needs to run at all, and its settings."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | settings
