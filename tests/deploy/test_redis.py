"""Several nodes on one Redis, as docs/deploy says: upgraded one after the other, and restored from a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Measured
from tests.e2e.processes import Node, ended_with_test, until, work_log
from tests.redis_server import RedisServer

BLUEPRINTS = Path(__file__).parents[1] / "e2e/blueprints"
QUICK = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.5,
    "WORKER_SILENCE_SECONDS": 1.5,
    "TASK_LEASE_SECONDS": 3,
    "JOB_CLAIM_SECONDS": 3,
}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer(append_only=True)
    yield server
    server.close()


def node_on(server: RedisServer, folder: Path, name: str, like: Node | None = None) -> Node:
    """A node on the server's store; with the certificates and the token of another, if one is given."""
    folder.mkdir()
    settings: dict[str, object] = {**QUICK, "STORAGE_URI": server.uri(), "INSTANCE_ID": name}
    if like is not None:
        settings |= {
            "TLS_CERT_PATH": like.certs / "server.pem",
            "TLS_KEY_PATH": like.certs / "server.key",
            "TLS_CA_PATH": like.ca,
            "CLIENT_TOKEN": like.token,
        }
    node = Node(folder, BLUEPRINTS, **settings)
    if like is not None:
        node.api.headers["X-Client-Token"] = like.token
    return node


def ask(server: RedisServer, *command: str) -> Any:
    with contextlib.closing(redis.Redis(unix_socket_path=str(server.socket))) as client:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]


def replace(server: RedisServer, snapshot: Path) -> None:
    """Take away the log of a server that does not run, and put a snapshot there."""
    for log in server.socket.parent.glob("appendonly*"):
        shutil.rmtree(log) if log.is_dir() else log.unlink()
    shutil.copyfile(snapshot, server.socket.with_name("dump.rdb"))


async def test_i10_nodes_that_are_upgraded_one_after_the_other_lose_nothing_and_no_task_runs_twice(
    server: RedisServer, tmp_path: Path, measured: Measured
) -> None:
    first = node_on(server, tmp_path / "first", "node-1")
    second = node_on(server, tmp_path / "second", "node-2", first)
    both = ",".join(f"grpcs://localhost:{node.grpc}" for node in (first, second))
    worker = first.worker("w1", "echo_worker.py", NODE_URL=both, WORK_LOG=tmp_path / "w1.work")
    accepted: dict[str, int] = {}

    async def submit(node: Node, start: int) -> None:
        for n in range(start, 1_000_000, 2):
            accepted[await node.create("/jobs/echo", {"n": n, "seconds": 0.3})] = n

    async with ended_with_test(first, worker), ended_with_test(second):
        await asyncio.gather(first.start(), second.start())
        await worker.start()
        clients = [asyncio.create_task(submit(node, start)) for start, node in enumerate((first, second))]
        for node in (first, second):
            least = len(work_log(tmp_path, "w1")) + 20

            def at_work(least: int = least) -> bool:
                return len(work_log(tmp_path, "w1")) > least

            await until(at_work, "the worker is at work")
            assert await node.process.end(signal.SIGTERM) == 0
            assert ": drained\n" in node.process.tail()
            await node.start()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)
        for job_id, n in accepted.items():
            job = await second.ended(job_id)
            assert (job["status"], job["result"]) == ("finished", {"echo": n})
        lines = Counter((line["what"], line["task"]) for line in work_log(tmp_path, "w1"))
        assert set(lines.values()) == {1}
        measured(f"{len(accepted)} jobs while two nodes were started anew")


async def test_a_store_is_restored_from_a_snapshot_as_the_page_says(server: RedisServer, tmp_path: Path) -> None:
    node = node_on(server, tmp_path / "node", "node-1")
    worker = node.worker("w1", "echo_worker.py")
    snapshot = tmp_path / "holon.rdb"
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        over = await node.create("/jobs/echo", {"n": 1})
        await node.ended(over)
        await worker.end(signal.SIGTERM)
        waiting = await node.create("/jobs/echo", {"n": 2})
        ask(server, "SAVE")
        shutil.copyfile(server.socket.with_name("dump.rdb"), snapshot)
        late = await node.create("/jobs/echo", {"n": 3})
        await node.process.end(signal.SIGTERM)

        server.kill()
        replace(server, snapshot)
        reader = RedisServer(options=("--dir", str(server.socket.parent)))
        ask(reader, "CONFIG", "SET", "appendonly", "yes")
        await until(lambda: not ask(reader, "INFO", "persistence")["aof_rewrite_in_progress"], "the log is written")
        reader.close()
        server.start()

        await node.start()
        await worker.start()
        assert (await node.job(over))["result"] == {"echo": 1}
        assert (await node.ended(waiting))["result"] == {"echo": 2}
        assert (await node.api.get(f"/api/v1/jobs/{late}")).status_code == 404
