"""What the tests of a node whose history is elsewhere share: its lines, its workers, and where its lines are by now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from holon.client import Client, HistoryEvent
from holon.testing import RunningNode
from tests.e2e.processes import until
from tests.history.backends import Database, PostgresDatabase, SqliteDatabase

KINDS = [
    "job_created",
    "state_started",
    "state_finished",
    "task_dispatched",
    "task_finished",
    "state_started",
    "state_finished",
    "job_completed",
]
LINES = len(KINDS)
Start = Callable[..., AbstractAsyncContextManager[RunningNode]]
# The STORAGE_URI of an empty store of a kind, the same for the whole of a test.
StoreOf = Callable[[str], str]


def uri_of(database: Database) -> str:
    if isinstance(database, PostgresDatabase):
        return database.uri
    assert isinstance(database, SqliteDatabase)
    return f"sqlite:///{database.path}"


@asynccontextmanager
async def working(node: RunningNode, *names: str) -> AsyncIterator[None]:
    """Workers that do at once what they are asked for."""
    workers = []
    for name in names or ("w1",):
        worker = node.new_worker(name)
        worker.skill("t")(_echo)
        workers.append(worker)
    try:
        for worker in workers:
            await worker.__aenter__()
        yield
    finally:
        for worker in workers:
            await worker.__aexit__(None, None, None)


def _echo(params: dict[str, Any]) -> dict[str, Any]:
    return params


async def told(client: Client, job_id: str) -> list[HistoryEvent]:
    return [event async for event in client.history(job_id, page_size=2)]


async def so(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for what only asking tells."""
    await until(condition, "what the test waits for")


def complete(events: list[HistoryEvent]) -> bool:
    return [event.sequence for event in events] == list(range(1, len(events) + 1))


async def moved(database: Database, job_id: str, lines: int) -> None:
    """Wait until the database has so many lines of a job."""
    async with database.open() as history:
        await so(lambda: has(history, job_id, lines))


async def has(history: Any, job_id: str, lines: int) -> bool:
    """Whether a database has so many lines of a job."""
    return len(await history.history(job_id, 0, 1_000)) == lines
