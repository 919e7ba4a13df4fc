"""The domain: a step of a job: what it becomes, and the effects that land with it."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.domain.task import RetryPolicy, TaskSpec
from holon.domain.value import Value


class Limits(Value):
    """What bounds a job: changes of state, and how its handlers and tasks are tried again (milliseconds)."""

    max_transitions: int
    retry: RetryPolicy


class Change(Value, gc=True):
    """A job after a step, and the step's effects: all of it lands together, or nothing.

    `wake_after` starts the job's timer, in milliseconds. `fan_out` says that the tasks are branches;
    `end_tasks` that what is still open of earlier steps ends now. `trace` is what its tasks belong to;
    empty: the job's. `as_it_was`: what the job works on is no more than it was, however large that is. `cancels` are
    parts of the job's that are to be cancelled before this is written, for nobody may know of them then; with `insists`
    they end at once, though they clean up already.
    """

    job: Job
    history: tuple[HistoryEvent, ...] = ()
    tasks: Sequence[TaskSpec] = ()
    fan_out: bool = False
    fail_fast: bool = False
    wake_after: int | None = None
    end_tasks: bool = False
    trace: str = ""
    as_it_was: bool = False
    cancels: tuple[str, ...] = ()
    insists: bool = False
