"""The test kit, for this project and for its users: a whole node in the test's own process, with its real doors.

```python
async with running_node(my_blueprint) as node:
    worker = node.new_worker("worker-1")
    worker.skill("echo")(my_function)
    async with worker:
        job = await node.run("my_blueprint", {"n": 1})
    assert job.status == "finished"
```
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from holon.client import Client, Job
from holon.client.watching import jobs_of
from holon.clock import ManualClock
from holon.config import Config
from holon.config.storage_uri import is_redis
from holon.domain.blueprint import Blueprint
from holon.node import Node, Ports
from holon.security import certificates
from holon.storage.memory import MemoryStorage
from holon.worker import Worker
from holon.worker.timing import Timing

__all__ = ["ManualClock", "RunningNode", "running_node"]

DAYS = 2
# Where memory holds the files, if there is such a place: what is gone with the node waits for no disk.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108  only in a folder of its own
HANG_GUARD_S = 60.0

# What a test waits for comes at once, and what it does not wait for comes late: a machine that is busy with other tests
# loses no worker. A test of that itself gives WORKER_SILENCE_SECONDS, TASK_LEASE_SECONDS or TASK_OFFER_SECONDS.
WAITS: dict[str, str | int | float | bool] = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.3,
    "WORKER_SILENCE_SECONDS": 10.0,
    "TASK_LEASE_SECONDS": 20.0,
    "TASK_OFFER_SECONDS": 10.0,
    "RETRY_BACKOFF_MIN_SECONDS": 0.02,
    "RETRY_BACKOFF_MAX_SECONDS": 0.05,
    "SHUTDOWN_GRACE_SECONDS": 5.0,
}


class RunningNode:
    """A node that runs, and the ways to it. Certificates and tokens are its own and end with it.

    Attributes:
        config: its settings.
        ports: where its doors are.
        token: the token of its clients.
        folder: where its certificates are.
        client: a client of its gRPC door; where there is none (`ENABLE_CLIENT_API=false`), nobody answers it.
    """

    def __init__(self, node: Node, ports: Ports, token: str, folder: Path, authority: certificates.Authority) -> None:
        self.config = node.config
        self.ports = ports
        self.token = token
        self.folder = folder
        self._authority = authority
        self.client = Client(f"grpcs://localhost:{ports.client or 1}", token, folder / "ca.pem")

    def __repr__(self) -> str:
        return f"RunningNode({self.ports})"

    @property
    def url(self) -> str:
        """The HTTP door."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def worker_url(self) -> str:
        """The workers' door."""
        return f"grpcs://localhost:{self.ports.worker}"

    def certificate(self, worker_id: str) -> certificates.KeyPair:
        """A certificate for a worker."""
        return certificates.issue_worker(self._authority, self.folder, worker_id, days=DAYS)

    def new_worker(self, worker_id: str, **options: Any) -> Worker:
        """A worker of this node that has no skill yet; `options` are those of `Worker`."""
        pair = self.certificate(worker_id)
        ca = self.folder / "ca.pem"
        # Left alone, a worker beats once a second at most, and would be silent for too long where waits are short.
        options.setdefault("timing", Timing(least_heartbeat=0.05))
        return Worker(self.worker_url, ca_path=ca, cert_path=pair.certificate, key_path=pair.key, **options)

    async def until(self, job_id: str, when: str | Callable[[Job], bool]) -> Job:
        """Wait until a job has a status, such as `waiting_for_timer`, or is as a function says it is to be.

        Raises:
            AssertionError: it is over, and was never so.
        """

        def is_so(job: Job) -> bool:
            return job.status == when if isinstance(when, str) else when(job)

        job: Job | None = None
        async with asyncio.timeout(HANG_GUARD_S), aclosing(jobs_of(self.client.watch(job_id))) as jobs:
            async for job in jobs:
                if is_so(job):
                    return job
        raise AssertionError(f"job {job_id} ended and never was in the expected state; it ended as {job}")

    async def run(self, blueprint: str, initial_data: dict[str, Any], **options: Any) -> Job:
        """Create a job and wait for its end; `options` are those of `Client.create_job`."""
        created = await self.client.create_job(blueprint, initial_data, **options)
        return await self.client.wait_for(created.job_id, timeout=HANG_GUARD_S)


@asynccontextmanager
async def running_node(
    *blueprints: Blueprint,
    storage: MemoryStorage | None = None,
    clock: ManualClock | None = None,
    **settings: str | float | bool,
) -> AsyncIterator[RunningNode]:
    """A node with these blueprints, over mTLS on free ports; drained at the end.

    Arguments:
        storage: the store; one in memory by default, unless `STORAGE_URI` is among the settings.
        clock: the node's time, which stands still until the test moves it; None takes the machine's. It goes with no
            `storage`, which has a clock of its own, and with no Redis, which is one.
        settings: upper-case settings, as in `Config`.
    Raises:
        ValueError: the store does not go by the clock.
    """
    if clock is not None and (storage is not None or is_redis(str(settings.get("STORAGE_URI", "")))):
        raise ValueError("a given store and a Redis have clocks of their own; leave out clock, or the store")
    with tempfile.TemporaryDirectory(prefix="holon-test-", dir=IN_MEMORY) as made:
        folder = Path(made)
        authority = certificates.open_authority(folder)
        server = certificates.issue_server(authority, folder, days=DAYS)
        token = secrets.token_urlsafe(32)
        config = Config(
            {},
            **{
                "API_PORT": 0,
                "GRPC_PORT": 0,
                "CLIENT_GRPC_PORT": 0,
                "CLIENT_TOKEN": token,
                "TLS_CERT_PATH": str(server.certificate),
                "TLS_KEY_PATH": str(server.key),
                "TLS_CA_PATH": str(folder / "ca.pem"),
                "STORAGE_URI": "memory://",
                **WAITS,
                **settings,
            },
        )
        node = Node(config, blueprints, storage, clock)
        opened: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as stack:
            running = asyncio.create_task(node.run(opened.set_result), name="node under test")
            stack.push_async_callback(_ended, node, running)
            await asyncio.wait((opened, running), return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                await running
            under_test = RunningNode(node, opened.result(), token, folder, authority)
            await stack.enter_async_context(under_test.client)
            yield under_test


async def _ended(node: Node, running: asyncio.Task[None]) -> None:
    node.stop()
    await running
