"""Places where stores are at rest, what is secret of the jobs there, and nodes on them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import AbstractAsyncContextManager, aclosing
from functools import cache
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from holon.context import ActionFactory, TaskItem
from holon.domain.blueprint import Blueprint
from holon.testing import RunningNode, running_node
from holon.worker import Progress, TaskError, Worker
from tests.redis_server import RedisServer

GUARD = 60.0
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KINDS = ("data", "params", "result", "error", "progress", "answer", "later", "chunk")
SECRET = {kind: f"s3cr3t-{kind}" for kind in KINDS}


def text(key: bytes) -> str:
    return b64encode(key).decode()


def blueprints() -> list[Blueprint]:
    working = Blueprint("working", api_version="v1", api_endpoint="/jobs/working")

    @working.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("work", {"it": SECRET["params"]}, transitions={"success": "then"})

    @working.handler
    async def then(actions: ActionFactory) -> None:
        actions.dispatch_task("fail", {}, transitions={"failure": "end"})

    @working.handler(is_end=True)
    async def end() -> dict[str, Any]:
        return {"answer": SECRET["answer"]}

    waiting = Blueprint("waiting", api_version="v1", api_endpoint="/jobs/waiting")

    @waiting.handler(is_start=True)
    async def wait(actions: ActionFactory) -> None:
        actions.dispatch_task("later", {"it": SECRET["later"]}, transitions={"success": "done"})

    @waiting.handler(is_end=True)
    async def done(initial_data: dict[str, Any]) -> dict[str, Any]:
        return initial_data

    spreading = Blueprint("spreading", api_version="v1", api_endpoint="/jobs/spreading")

    @spreading.handler(is_start=True)
    async def spread(actions: ActionFactory) -> None:
        task: TaskItem = {"task_type": "nobody-has-it", "params": {"it": SECRET["chunk"]}}
        actions.dispatch_parallel([task] * 250, aggregate_into="gathered")

    @spreading.aggregator
    async def gathered(actions: ActionFactory) -> None:
        actions.go_to("spent")

    @spreading.handler(is_end=True)
    async def spent() -> None: ...

    return [working, waiting, spreading]


def hand(node: RunningNode, name: str = "w1", seen: asyncio.Event | None = None) -> Worker:
    """A worker that can do all but what nobody can; `work` ends when `seen` is set."""
    worker = node.new_worker(name)

    @worker.skill
    async def work(it: str, progress: Progress) -> dict[str, str]:
        progress(50, SECRET["progress"])
        if seen is not None:
            await seen.wait()
        return {"found": SECRET["result"]}

    @worker.skill
    async def fail() -> None:
        raise TaskError("PERMANENT_ERROR", SECRET["error"])

    return worker


def late_hand(node: RunningNode, **options: bool) -> Worker:
    """A worker that does what waits."""
    worker = node.new_worker("late", **options)

    @worker.skill
    async def later(it: str) -> dict[str, str]:
        return {"found": it}

    return worker


class Place:
    """Where a test's store is, and all that can be found there."""

    def __init__(self, kind: str, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        self.file = folder / "holon.db"
        self.keys = folder / "keys"
        self.uri = server.uri(server.database()) if kind == "redis" else f"sqlite:///{self.file}?synchronous=NORMAL"
        self._redis = kind == "redis"

    def write(self, *keys: bytes) -> str:
        """The file of keys, with these."""
        self.keys.touch(0o600)
        self.keys.write_text("".join(f"{text(key)}\n" for key in keys))
        return str(self.keys)

    async def content(self) -> bytes:
        """All bytes that are at rest."""
        files = [file.read_bytes() for file in self.folder.iterdir() if file.is_file() and file != self.keys]
        return b"\n".join([*files, *([await self._of_redis()] if self._redis else [])])

    async def _of_redis(self) -> bytes:
        def flat(value: Any) -> bytes:
            if isinstance(value, list | tuple | set):
                return b"\n".join(map(flat, value))
            if isinstance(value, dict):
                return flat([part for pair in value.items() for part in pair])
            return value if isinstance(value, bytes) else str(value).encode()

        async with Redis.from_url(self.uri) as redis:
            readers: dict[str, Any] = {
                "string": redis.get,
                "hash": redis.hgetall,
                "list": lambda key: redis.lrange(key, 0, -1),
                "zset": lambda key: redis.zrange(key, 0, -1),
                "set": redis.smembers,
                "stream": redis.xrange,
            }
            kinds: list[tuple[Any, Any]] = [(key, await redis.type(key)) for key in await redis.keys("*")]
            # Some are gone by now, while there is work.
            return flat([(key, await readers[kind.decode()](key)) for key, kind in kinds if kind != b"none"])

    async def secrets(self) -> set[str]:
        """Which of the secrets can be found there."""
        content = await self.content()
        return {kind for kind, secret in SECRET.items() if secret.encode() in content}


@cache
def all_blueprints() -> list[Blueprint]:
    return blueprints()


def node_at(place: Place, **settings: str | float | bool) -> AbstractAsyncContextManager[RunningNode]:
    return running_node(*all_blueprints(), storage=None, clock=None, STORAGE_URI=place.uri, INSTANCE_ID="a", **settings)


async def progressed(node: RunningNode, job_id: str) -> None:
    async with asyncio.timeout(GUARD), aclosing(node.client.watch(job_id)) as updates:
        async for update in updates:
            if update.progress is not None and update.progress.message == SECRET["progress"]:
                return


async def work(node: RunningNode, place: Place) -> set[str]:
    """Do a round of all that can be done; the secrets that were at rest meanwhile, or are in the end."""
    seen = asyncio.Event()
    async with hand(node, seen=seen):
        waiting = await node.client.create_job("waiting", {"it": SECRET["data"]})
        await node.client.create_job("spreading", {})
        job = await node.client.create_job("working", {"it": SECRET["data"]})
        await progressed(node, job.job_id)
        meanwhile = await place.secrets()
        seen.set()
        ended = await node.client.wait_for(job.job_id, timeout=GUARD)
        lines = [event async for event in node.client.history(job.job_id)]
    assert ended.result == {"answer": SECRET["answer"]}
    assert SECRET["error"] in str(lines)
    assert (await node.client.get_job(waiting.job_id)).status == "waiting_for_worker"
    return meanwhile | await place.secrets()
