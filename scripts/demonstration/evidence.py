"""The demo: what shows that nothing was lost and nothing counted twice, from the workers' logs and the job's tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class Stage(Enum):
    """How far a worker came with a task."""

    OFFERED = "not begun"
    BEGUN = "in the middle"
    ENDED = "ended, its result not yet stored"


@dataclass(frozen=True, slots=True)
class Rerun:
    """A task that ran again: who had it first, who ended it, and as which attempt."""

    task_id: str
    first: str
    then: str
    attempt: int


def tasks_held(log: Path) -> list[str]:
    """The tasks that a worker began and did not end, from its log."""
    lines = [line.split() for line in _lines(log)]
    ended = {(task, attempt) for what, task, attempt in lines if what == "ended"}
    return [task for what, task, attempt in lines if what == "began" and (task, attempt) not in ended]


def stage(log: Path, task_id: str, attempt: int) -> Stage:
    """How far a worker came with an attempt, from its log."""
    told = [line for line in _lines(log) if line.split()[1:] == [task_id, str(attempt)]]
    return (Stage.OFFERED, Stage.BEGUN, Stage.ENDED)[len(told)]


def reruns(tasks: Sequence[Mapping[str, Any]], victim: str) -> list[Rerun]:
    """The tasks that needed more than one attempt, from a tree; only who was killed has lost any."""
    found = [Rerun(one["task_id"], victim, one["worker_id"], one["attempt"]) for one in tasks if one["attempt"] > 1]
    return sorted(found, key=lambda one: number(one.task_id))


def share(tasks: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many tasks each worker ended."""
    return Counter(one["worker_id"] for one in tasks if one["status"] == "success")


def doubts(tasks: Sequence[Mapping[str, Any]], held: Sequence[str], logs: Mapping[str, Path], victim: str) -> list[str]:
    """What is not as it should be after a worker was killed; nothing at all is what is hoped for.

    Arguments:
        tasks: all of them, from the job's tree.
        held: the tasks that the killed worker held.
        logs: each worker's log.
        victim: the killed worker.
    """
    times = Counter(one["task_id"] for one in tasks)
    found = [f"task {number(task)} is there {count} times" for task, count in times.items() if count != 1]
    found += [f"task {number(one['task_id'])} is {one['status']}" for one in tasks if one["status"] != "success"]
    again = {one.task_id: one for one in reruns(tasks, victim)}
    for task in held:
        one = again.get(task)
        if one is None:
            found.append(f"task {number(task)} was held by {victim} and did not run again")
        elif one.attempt != 2 or one.then == victim:
            found.append(f"task {number(task)} ran again as attempt {one.attempt}, by {one.then} after {one.first}")
        elif stage(logs[one.then], task, 2) is not Stage.ENDED:
            found.append(f"task {number(task)} is not in the log of {one.then}")
    return found


def number(task_id: str) -> int:
    """A task's number within its fan-out, from 0."""
    return int(task_id.rsplit("-", 1)[1])


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
