"""Chaos: a node's promises, each broken on purpose, so that the checker can be seen to notice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import holon.transports.grpc.hello
import holon.transports.grpc.incoming
from holon.core import jobs, outcomes
from holon.core.rows import JobRow, TaskState
from holon.core.tables import Tables
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.value import replace
from holon.ports import Appended, Result, Superseded

GENEROUS = 3
EVERY = 10


def break_it(name: str) -> None:
    """Break what is named; nothing for an empty name."""
    if name:
        BREAKS[name]()


def fencing() -> None:
    """A result counts under whatever lease its task has now."""
    right = outcomes._complete

    def unfenced(
        tables: Tables, result: Result, state: bytes, worker_id: str, landed: set[str], now: int
    ) -> Superseded | None:
        task = tables.task(result.task_id)
        if task is None or task.state in (TaskState.OVER, TaskState.BACK_OFF):
            return right(tables, result, state, worker_id, landed, now)
        under = replace(result, lease_id=task.lease_id)
        return right(tables, under, state, task.worker_id, landed, now)

    outcomes._complete = unfenced


def outbox() -> None:
    """Now and then a line that a step wrote for the history is not kept."""
    right = Tables.tell
    turns = itertools.count(1)

    def forgetful(tables: Tables, row: JobRow, events: Iterable[HistoryEvent]) -> None:
        kept = [event for event in events if event.type != "task_finished" or next(turns) % EVERY]
        right(tables, row, kept)

    Tables.tell = forgetful  # type: ignore[method-assign, assignment]


def inbox() -> None:
    """What was delivered to a job's inbox before is delivered again when it comes again."""
    complete, append = outcomes._complete, jobs.append

    def repeating(
        tables: Tables, result: Result, state: bytes, worker_id: str, landed: set[str], now: int
    ) -> Superseded | None:
        task = tables.task(result.task_id)
        if task is not None and task.applied_lease == result.lease_id:
            tables.edit(task)
            task.applied_lease, task.state = "", TaskState.LEASED
        return complete(tables, result, state, worker_id, landed, now)

    def appending(tables: Tables, job_id: str, event: InboxEvent, keys: tuple[str, str], most: int | None) -> Appended:
        return append(tables, job_id, event, (tables.token(), ""), most)

    outcomes._complete = repeating
    jobs.append = appending


def credits() -> None:  # noqa: A001  # the protocol's word
    """A worker's grant is taken for more than it is."""
    right = holon.transports.grpc.hello.credits_of

    def generous(value: int) -> int:
        return right(value) * GENEROUS

    for module in (holon.transports.grpc.hello, holon.transports.grpc.incoming):
        module.credits_of = generous  # type: ignore[attr-defined]


BREAKS: dict[str, Callable[[], None]] = {
    "fencing": fencing,
    "outbox": outbox,
    "inbox": inbox,
    "credits": credits,
}
