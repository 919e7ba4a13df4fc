"""A place under load while all that proves somebody is replaced, and who was refused meanwhile."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from holon.client import Client
from holon.config import Config
from holon.domain.blueprint import Blueprint
from holon.errors import FailedPrecondition
from holon.node import Node
from holon.storage.memory import MemoryStorage
from holon.testing import WAITS
from holon.worker import Worker
from tests.attack.place import (
    GUARD,
    LOOPBACK,
    Place,
    a_running,
)
from tests.integration.tls_site import serial_of

# How often workers move to another connection; else it is an hour until the last has shown its new certificate.
ROTATION_S = 0.4
# Between two looks, and between two jobs of a client: they are not to take the processor from all that is waited for.
PAUSE_S = 0.05
# How long a client asks the node to wait for a job's end.
WAIT_S = 20
CERTIFIED = ("w1", "w2")
BY_TOKEN = "reporter"
CHILD = "child"
ONCE_MORE = 2


class Load:
    """Clients at both doors that create jobs and see them finished, each with a new connection for every job."""

    def __init__(self, place: Place) -> None:
        self.done: Counter[str] = Counter()
        # A client that is cancelled while it connects leaves the connection behind.
        self.over = False
        self._place = place
        self._more = asyncio.Condition()

    async def grpc(self, name: str, skill: str = "t") -> None:
        """A client of the gRPC door, until the load is `over`."""
        while not self.over:
            async with self._place.client(name) as client:
                made = await client.create_job("relay", {"skill": skill, "n": self.done[name]})
                job = await client.wait_for(made.job_id, timeout=GUARD)
                await self._finished(name, job.status, job.result)

    async def http(self, name: str) -> None:
        """A client of the HTTP door, until the load is `over`."""
        while not self.over:
            async with self._place.http(name) as http:
                body = {"initial_data": {"skill": "t", "n": self.done[name]}}
                reply = await http.post("/api/v1/jobs/relay", json=body)
                assert reply.status_code == 202, reply.text
                job: dict[str, Any] = {"finished_at": None}
                while job["finished_at"] is None:
                    job = (await http.get(f"/api/v1/jobs/{reply.json()['job_id']}?wait={WAIT_S}")).json()
                await self._finished(name, job["status"], job["result"])

    async def _finished(self, name: str, status: str, result: Any) -> None:
        assert (status, result["got"]) == ("finished", self.done[name])
        self.done[name] += 1
        async with self._more:
            self._more.notify_all()
        await asyncio.sleep(PAUSE_S)

    async def goes_on(self) -> None:
        """Return once every client has seen some more jobs finished, the first of which began after this call."""
        least = {name: count + ONCE_MORE for name, count in self.done.items()}
        async with asyncio.timeout(GUARD), self._more:
            await self._more.wait_for(lambda: all(self.done[name] >= count for name, count in least.items()))


def a_worker(place: Place, worker_id: str, **options: Any) -> Worker:
    worker = place.sdk_worker(worker_id, max_concurrent=4, **options)

    @worker.skill("t")
    async def t(n: int) -> dict[str, int]:
        return {"got": n}

    return worker


def a_child(place: Place) -> Node:
    """A holon with a store of its own, which does `below` for the place."""
    below = Blueprint("below")

    @below.handler(is_start=True, is_end=True)
    async def got(initial_data: dict[str, Any]) -> dict[str, Any]:
        return {"got": initial_data["n"]}

    files = place.worker_files(CHILD)
    config = Config(
        {},
        **WAITS,
        API_PORT=0,
        GRPC_PORT=0,
        CLIENT_GRPC_PORT=0,
        ENABLE_CLIENT_API=False,
        PARENT_URL=f"grpcs://localhost:{place.ports.worker}",
        PARENT_TLS_CERT_PATH=str(files.certificate),
        PARENT_TLS_KEY_PATH=str(files.key),
        PARENT_TLS_CA_PATH=str(place.ca),
    )
    return Node(config, [below], MemoryStorage())


@asynccontextmanager
async def under_load(place: Place) -> AsyncIterator[tuple[Load, Client, AsyncExitStack, AsyncExitStack]]:
    """Workers by certificate, by short-lived token and by static token, a holon below, and clients.

    The two stacks hold the worker with the static token, and the holon.
    """
    load = Load(place)
    async with AsyncExitStack() as workers, place.client("boss") as boss:
        by_token, child = [await workers.enter_async_context(AsyncExitStack()) for _ in range(2)]
        await child.enter_async_context(a_running(a_child(place)))
        for worker_id in CERTIFIED:
            worker = await workers.enter_async_context(a_worker(place, worker_id, sts=worker_id == "w2"))
            await worker.ready()
        await by_token.enter_async_context(a_worker(place, BY_TOKEN, token=place.tokens[BY_TOKEN]))
        async with asyncio.TaskGroup() as loops:
            load.done.update(shop=0, lab=0, boss=0)
            loops.create_task(load.grpc("shop"))
            loops.create_task(load.http("lab"))
            loops.create_task(load.grpc("boss", "below"))
            await load.goes_on()
            yield load, boss, by_token, child
            await load.goes_on()
            load.over = True


async def moved(boss: Client, *worker_ids: str) -> None:
    """Return once the workers use what they have been given by now."""
    async with asyncio.timeout(GUARD):
        # One that connects just now may have read before what it shows.
        for _ in range(2):
            since = earliest = time.time()
            while earliest <= since:
                await asyncio.sleep(PAUSE_S)
                earliest = min(await connected(boss, *worker_ids))


async def connected(boss: Client, *worker_ids: str) -> list[float]:
    """Since when each worker is."""
    workers = {one.worker_id: one.connected_at or 0.0 async for one in boss.node.list_workers()}
    return [workers.get(one, 0.0) for one in worker_ids]


async def refused(boss: Client, load: Load, path: Path, target: str, *bad: bytes) -> None:
    """A file that is bad, empty, or half of what it was, is refused, and changes nothing."""
    good = path.read_bytes()  # noqa: ASYNC240
    for content in (b"", good[: len(good) // 2], b"\x00\xff", *bad):
        path.write_bytes(content)  # noqa: ASYNC240
        with pytest.raises(FailedPrecondition) as caught:
            await boss.node.reload([target])
        assert caught.value.code == "CONFIG_INVALID"
    await load.goes_on()
    path.write_bytes(good)  # noqa: ASYNC240
    await boss.node.reload([target])


async def serial_at(place: Place, port: int) -> str:
    trust = place.trust()
    _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=trust, server_hostname="localhost")
    try:
        return serial_of(writer)
    finally:
        writer.close()


def key_of(access_token: str) -> str:
    """Which key has signed it."""
    return str(jwt.get_unverified_header(access_token)["kid"])


def audit(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(one.getMessage()) for one in caplog.records if one.name == "holon.audit"]


def refusals(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """Of calls, by their codes."""
    return Counter(line["result"] for line in audit(caplog) if line["act"] == "call_refused")


def encryption_key() -> str:
    return b64encode(secrets.token_bytes(32)).decode()
