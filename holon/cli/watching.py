"""The command line: a job watched to its end, with a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holon.cli.output import local_time, one_line, safe
from holon.domain.children import shown_skill
from holon.domain.json_words import quoted
from holon.errors import HolonError

if TYPE_CHECKING:
    from holon.client import Client, HistoryEvent, Job, JobLogs, LogLine, Update

# How much of a job's progress message fits beside its bar.
_SHOWN = 60
# How much of an error is told in a line of a history; the JSON has all of it.
_OF_ERROR = 120
_OF_PAYLOAD = 200
# By status, what a task_finished is called for people.
_ENDS = {"failure": "task_failed", "cancelled": "task_cancelled"}


async def follow(
    client: Client,
    job_id: str,
    after: int | None,
    timeout: float | None,
    tell: Callable[[Update, Job], None],
    *,
    logs: bool = False,
) -> Job | None:
    """Follow a job to its end or to the end of the wait, and return it as it is then; None if that is not known.

    Arguments:
        after: as for `Client.watch`.
        timeout: seconds to wait at most.
        tell: called with each thing that is told, and the job as it is then.
        logs: as for `Client.watch`.
    """
    job: Job | None = None
    try:
        async with asyncio.timeout(timeout), aclosing(client.watch(job_id, after=after, logs=logs)) as updates:
            async for update in updates:
                if update.job is not None:
                    job = update.job
                elif update.progress is not None and job is not None:
                    now = update.progress
                    job = replace(
                        job,
                        progress=now.percent,
                        progress_message=now.message,
                        status=now.status,
                        current_state=now.current_state,
                    )
                if job is not None:
                    tell(update, job)
    except TimeoutError:
        # Why it waits may have changed since anything was told of it.
        with suppress(HolonError):
            job = await client.get_job(job_id)
    return job


class Bar:
    """A bar of a job's progress on standard error while it is entered, if that is a terminal that can show one.

    Arguments:
        job_id: shown until more is known.
        lines: whether what happens is printed too: above the bar, or on standard output where there is none.
    """

    def __init__(self, job_id: str, *, lines: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._lines = lines
        self._told = ""
        # One that cannot move its cursor would be shown nothing before the end.
        plain = not console.is_terminal or console.is_dumb_terminal
        self._shown = Progress(*columns, console=console, transient=True, disable=plain)
        self._bar = self._shown.add_task(safe(job_id), total=None)

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def tell(self, update: Update, job: Job) -> None:
        """Show what is told of a job, and how it now is."""
        said = one_line(f"{job.status} {job.current_state} {job.progress_message}")
        total = None if job.progress is None else 100
        self._shown.update(self._bar, description=said[:_SHOWN], total=total, completed=job.progress or 0)
        if not self._lines:
            return
        if update.event is not None:
            self._line(event_line(update.event))
        elif update.logs is not None:
            for written in update.logs.lines:
                self._line(log_line(update.logs, written))
        elif self._shown.disable and not job.terminal and (line := progress_line(job)) != self._told:
            # At first, and after a new connection, all that is known of a job that waits is the job itself.
            self._told = line
            self._line(line)

    def _line(self, text: str) -> None:
        if self._shown.disable:
            print(one_line(text), flush=True)
        else:
            self._shown.console.print(one_line(text), markup=False, highlight=False)


def event_line(event: HistoryEvent) -> str:
    """A line of a job's history for people."""
    who = f"by {event.worker_id}" if event.worker_id else ""
    took = "" if event.duration_ms is None else f"in {event.duration_ms} ms"
    kind = shown_type(event)
    begin = (local_time(event.timestamp), f"#{event.sequence}", kind, states_of(event))
    parts = (*begin, who, took, what_of(event))
    return " ".join(part for part in parts if part)


def states_of(event: HistoryEvent) -> str:
    """The state of a line of a job's history, and the next one, if it leads to one."""
    return f"{event.state or ''} -> {event.next_state}" if event.next_state else event.state or ""


def task_number(task_id: str | None) -> str:
    """What tells a task from the others of its job: #STEP-BRANCH; empty for no task."""
    return "#" + "-".join(task_id.rsplit("-", 2)[1:]) if task_id else ""


def attempt_of(event: HistoryEvent, *, by: bool = True) -> str:
    """Which attempt a line of a job's history is of, if not the first; and who made it, where that is asked for."""
    attempt = event.attempt_number or 0
    who = f"by {event.worker_id}" if by and event.worker_id else ""
    return " ".join(filter(None, (who, f"attempt {attempt}" if attempt > 1 else "")))


def log_line(logs: JobLogs, line: LogLine) -> str:
    """A line of the log of a job's task for people."""
    below = line.fields.get("holon_ids")
    where = f"in {below[0] if below else line.fields.get('job_id')}" if isinstance(below, list) else ""
    rest = {name: value for name, value in line.fields.items() if name not in ("holon_ids", "job_id", "task_id")}
    more = " ".join(f"{name}={value}" for name, value in rest.items())
    return " ".join(
        filter(None, (local_time(line.time), task_number(logs.task_id), line.level.upper(), where, line.text, more))
    )


def shown_type(event: HistoryEvent) -> str:
    """The type of a line of a job's history, for people: the end of a task that failed reads `task_failed`."""
    known = event.context_snapshot
    status = known.get("status") if isinstance(known, dict) else None
    return _ENDS.get(str(status), event.event_type) if event.event_type == "task_finished" else event.event_type


def what_of(event: HistoryEvent) -> str:
    """What else is known of a line of a job's history: how it ended and why, which task it was, what came with it.

    A task has its skill, and the numbers of its step and its branch as `holon jobs tree` shows them.
    """
    known = event.context_snapshot
    if not isinstance(known, dict):
        return ""
    why = ": ".join(str(known[name]) for name in ("code", "error") if known.get(name))
    parts = (
        "" if shown_type(event) in _ENDS.values() else str(known.get("status") or ""),
        f"({known['reason']})" if known.get("reason") else "",
        one_line(why, _OF_ERROR),
        shown_skill(str(known.get("skill") or "")),
        task_number(event.task_id),
        f"as job {known['child_job_id']}" if known.get("child_job_id") else "",
        f"of job {known['job_ids'][-1]}" if known.get("job_ids") else "",
        f"{known['branches']} branches" if known.get("branches") else "",
        quoted(known["payload"], _OF_PAYLOAD) if "payload" in known else "",
        str(known.get("message") or ""),
        str(known.get("decision") or ""),
        ", ".join(map(str, known.get("names") or ())),
        str(known.get("name") or ""),
        "kept" if known.get("kept") else "",
        f"by '{known['by']}'" if known.get("by") else "",
        f"({known['comment']})" if known.get("comment") else "",
        f"until {local_time(known['until'])}" if known.get("until") else "",
        str(known.get("source") or ""),
        f"{known['operation']} {known.get('uri', '')}" if known.get("operation") else "",
    )
    return one_line(" ".join(part for part in parts if part))


def progress_line(job: Job) -> str:
    """How far a job is, for people."""
    percent = "" if job.progress is None else f"{job.progress:g}%"
    return " ".join(part for part in (job.status, job.current_state, percent, job.progress_message) if part)
