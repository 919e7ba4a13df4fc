"""The core: match keys of waiting tasks, and what happens to them when a new contract appears."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from holon.core.rows import OVER, QUEUED
from holon.core.tables import Tables
from holon.domain.matching import Need


def needs(tables: Tables, keys: Iterable[str] | None = None) -> Mapping[str, Need]:
    """The match keys with waiting tasks, and their needs: those of `keys`, or all."""
    backlog = tables.backlog
    return {key: backlog.needs[key] for key in (backlog.waiting if keys is None else keys) if backlog.waiting.get(key)}


def queued(tables: Tables, skill: str) -> Mapping[str, tuple[Need, int]]:
    """The match keys of a skill with waiting tasks: the need and the number of tasks of each."""
    return {key: (need, tables.backlog.waiting[key]) for key, need in needs(tables).items() if need.skill == skill}


def rekey(tables: Tables, moves: Sequence[tuple[str, Need]]) -> None:
    """Give tasks a new need. Waiting tasks move to the queue of its match key and keep their arrival number."""
    for task_id, need in moves:
        task = tables.task(task_id)
        if task is None or task.need == need or task.state is OVER:
            continue
        tables.edit(task)
        if task.state is QUEUED:
            tables.backlog.dequeued(task)
        task.need, task.key = need, need.key
        if task.state is QUEUED:
            tables.backlog.enqueue(task)
