"""Several nodes on one Redis, as docs/deploy says: upgraded one after the other, and restored from a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Measured
from tests.e2e.load import Load, again
from tests.e2e.processes import Node, ended_with_test, until
from tests.redis_server import RedisServer

BLUEPRINTS = Path(__file__).parents[1] / "e2e/blueprints"
QUICK = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.5,
    "WORKER_SILENCE_SECONDS": 1.5,
    "TASK_LEASE_SECONDS": 3,
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
    first = node_on(server, tmp_path / "node-1", "node-1")
    nodes = [first, *(node_on(server, tmp_path / name, name, first) for name in ("node-2", "node-3"))]
    names = ("w1", "w2")
    anywhere = ",".join(f"grpcs://localhost:{node.grpc}" for node in nodes)
    workers = [
        first.worker(name, "echo_worker.py", NODE_URL=anywhere, WORK_LOG=tmp_path / f"{name}.work") for name in names
    ]
    load = Load(tmp_path, nodes, names, random.Random(20), seconds=(0.5, 2.0), room=40)
    async with ended_with_test(first, *workers), ended_with_test(nodes[1]), ended_with_test(nodes[2]):
        await asyncio.gather(*(node.start() for node in nodes))
        for worker in workers:
            await worker.start()
        async with load.made_by(clients=12):
            for node in nodes:
                least = load.logs.begun + 20

                def at_work(least: int = least) -> bool:
                    return load.logs.begun > least

                await until(at_work, "the workers are at work")
                assert await node.process.end(signal.SIGTERM) == 0
                assert ": drained\n" in node.process.tail()
                await node.start()
        ended = await load.judged(first)
        assert set(ended.values()) == {1}
        measured(f"three nodes were started anew, {again(ended)}")


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
