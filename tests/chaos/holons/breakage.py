"""Chaos of holons: promises between holons, each broken on purpose, so that the checker can be seen to notice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from holon.core import outcomes
from holon.core.rows import TaskState
from holon.core.tables import Tables
from holon.domain.client import Client
from holon.domain.digest import Fingerprint
from holon.domain.events import HistoryEvent
from holon.domain.value import replace
from holon.engine.jobs import Jobs
from holon.engine.requests import Accepted, Creating
from holon.errors import HolonError
from holon.ports import Result, Superseded
from holon.uplink.books import Books
from holon.uplink.delegation import Delegation
from holon.uplink.serving import Serving
from holon.worker.leases import Lease


def break_them(names: str) -> None:
    """Break all that are named, with commas between; nothing for an empty text."""
    for name in filter(None, names.split(",")):
        BREAKS[name]()


def origin() -> None:
    """A task of the parent's is made a job of twice."""
    right = Jobs.create_for_parent

    async def twice(jobs: Jobs, client: Client, asked: Sequence[Creating]) -> list[Accepted | HolonError]:
        accepted = await right(jobs, client, asked)
        again = [replace(one, request_id=secrets.token_hex(8), job_id="", note=None) for one in asked]
        await right(jobs, client, again)
        return accepted

    Jobs.create_for_parent = twice  # type: ignore[method-assign, assignment]


def books() -> None:
    """What is settled stays in the books."""

    def keep(books: Books, entry: Delegation) -> None:
        pass

    Books.settle = keep  # type: ignore[method-assign, assignment]


def stops() -> None:
    """A child does not hear that its parent's task is over."""

    def deaf(serving: Serving, lease: Lease, reason: str) -> None:
        pass

    Serving.stopped = deaf  # type: ignore[method-assign, assignment]


def twice() -> None:
    """A result is applied twice."""
    right = outcomes._complete

    def again(
        tables: Tables, result: Result, state: bytes, worker_id: str, landed: set[str], now: int
    ) -> Superseded | None:
        superseded = right(tables, result, state, worker_id, landed, now)
        task = tables.task(result.task_id)
        if superseded is None and task is not None and task.state is TaskState.OVER:
            tables.edit(task)
            task.applied_lease, task.state = "", TaskState.LEASED
            right(tables, result, state, worker_id, landed, now)
        return superseded

    outcomes._complete = again


def digests() -> None:
    """What is told of a job's history is of another one."""
    right = Fingerprint.take_all

    def other(fingerprint: Fingerprint, lines: Sequence[tuple[int, HistoryEvent]]) -> None:
        right(fingerprint, [(number + 1, event) for number, event in lines])

    Fingerprint.take_all = other  # type: ignore[method-assign, assignment]


BREAKS: dict[str, Callable[[], None]] = {
    "origin": origin,
    "books": books,
    "stops": stops,
    "twice": twice,
    "digests": digests,
}
