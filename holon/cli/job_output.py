"""The command line: how one job is shown, to people and to programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holon.cli.output import json_text, local_time, show_json, show_lines

if TYPE_CHECKING:
    from holon.client import Job


def job_json(job: Job, *, data: bool = False) -> dict[str, Any]:
    """A job in the shape that it has over HTTP; `data`: with what it carries."""
    shape = asdict(job)
    if not data:
        del shape["initial_data"], shape["state_history"]
    if job.approval is not None and not job.approval.approval_token:
        del shape["approval"]["approval_token"]
    return shape


def show_job(job: Job, *, as_json: bool, data: bool = False) -> None:
    """Print a job, with its question and its result; `data`: with what it carries."""
    if as_json:
        show_json(job_json(job, data=data))
        return
    lines: list[tuple[str, object]] = [
        ("id", job.id),
        ("blueprint", job.blueprint_name),
        ("status", job.status),
        ("state", job.current_state),
    ]
    if job.progress is not None or job.progress_message:
        percent = "" if job.progress is None else f"{job.progress:g}% "
        lines.append(("progress", f"{percent}{job.progress_message}"))
    lines += [("created", local_time(job.created_at)), ("updated", local_time(job.updated_at))]
    if job.finished_at is not None:
        lines.append(("finished", local_time(job.finished_at)))
    if (asked := job.approval) is not None:
        lines += [("approval", asked.message), ("decisions", ", ".join(asked.decisions))]
        lines.append(("integration", asked.integration))
        if asked.expires_at is not None:
            lines.append(("expires", local_time(asked.expires_at)))
    if (awaited := job.signal) is not None:
        lines.append(("signals", ", ".join(awaited.names)))
        if awaited.expires_at is not None:
            lines.append(("expires", local_time(awaited.expires_at)))
    if job.kept_signals:
        lines.append(("kept signals", job.kept_signals))
    if job.parent_job_id is not None:
        lines.append(("parent job", job.parent_job_id))
    if job.cost is not None or job.budget is not None:
        most = "" if job.budget is None else f" of {job.budget}"
        lines.append(("cost", f"{job.cost or 0}{most}"))
    if job.status == "finished":
        lines.append(("result", json_text(job.result)))
    if job.error is not None:
        lines.append(("error", f"{job.error.code}: {job.error.message}"))
        if job.error.details is not None:
            lines.append(("details", json_text(job.error.details)))
    if data:
        carried = {"initial data": job.initial_data, "state history": job.state_history}
        lines += [(name, "deleted" if it is None else json_text(it)) for name, it in carried.items()]
    show_lines(lines)
