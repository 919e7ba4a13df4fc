"""The command line: `holon jobs` creates, shows and changes jobs, over the client gRPC port."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from holon.cli.connection import NAMED, with_client
from holon.cli.data import read_data
from holon.cli.exits import ExitCode, WaitTimedOut
from holon.cli.job_ids import JobId, short_ids, whole_id, with_job
from holon.cli.job_output import job_json, show_job
from holon.cli.output import Json, precise_time, safe, short_time, show_json, show_table
from holon.cli.tree import tree, verify
from holon.cli.watching import Bar, attempt_of, follow, shown_type, states_of, what_of
from holon.errors import InvalidArgument

if TYPE_CHECKING:
    from holon.client import Client, HistoryEvent, Job, JobPage, Update

app = typer.Typer(help=f"Jobs. {NAMED}", no_args_is_help=True)
_ENDINGS = {
    "finished": ExitCode.OK,
    "failed": ExitCode.JOB_FAILED,
    "quarantined": ExitCode.JOB_QUARANTINED,
    "cancelled": ExitCode.JOB_CANCELLED,
}


@app.command()
def create(
    blueprint: Annotated[str, typer.Argument(metavar="BLUEPRINT", help="Name of the blueprint.")],
    data: Annotated[
        str, typer.Option("--data", "-d", help="JSON object; @FILE reads a file, - standard input.")
    ] = "{}",
    request_id: Annotated[
        str | None, typer.Option(help="Id of this request; a repeated one returns the same job.")
    ] = None,
    dispatch_timeout: Annotated[
        float | None, typer.Option(help="Longest time that a task waits for a worker, in seconds.")
    ] = None,
    result_timeout: Annotated[
        float | None, typer.Option(help="Longest time of a task with its wait and all attempts, in seconds.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A skill that the job may use; repeatable. All others are forbidden."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="INTEGER", help="Most that the tasks may cost together, in millionths of the cost unit."),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="URL that gets a signed POST for each event and for the end."),
    ] = None,
    priority: Annotated[
        float | None, typer.Option(help="Priority of tasks that have none of their own; higher runs first.")
    ] = None,
    max_transitions: Annotated[int | None, typer.Option(help="Most transitions that the job may make.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of the job; the exit code shows how it ended.")
    ] = False,
    wait_timeout: Annotated[float | None, typer.Option(help="Longest wait in seconds; needs --wait.")] = None,
    as_json: Json = False,
) -> None:
    """Create a job, and print its id.

    With --wait, the exit code is 0 (finished), 10 (failed), 11 (quarantined), 12 (cancelled) or 13 (still running).
    """
    if wait_timeout is not None and not wait:
        raise InvalidArgument("--wait-timeout needs --wait; add it, or leave --wait-timeout out")
    _check_timeout("--wait-timeout", wait_timeout)
    initial_data = _input(data)

    async def go(client: Client) -> tuple[str, Job | None]:
        created = await client.create_job(
            blueprint,
            initial_data,
            request_id=request_id,
            dispatch_timeout=dispatch_timeout,
            result_timeout=result_timeout,
            allowed_skills=allow or None,
            budget=_number(budget),
            webhook_url=webhook,
            priority=priority,
            max_transitions=max_transitions,
        )
        if not wait:
            return created.job_id, None
        try:
            with Bar(created.job_id, lines=False) as bar:
                return created.job_id, await follow(client, created.job_id, None, wait_timeout, bar.tell)
        except BaseException:
            # Whatever ends the wait does not end the job, and only here is it known which one it is.
            if as_json:
                show_json({"status": "accepted", "job_id": created.job_id})
            else:
                print(
                    f"holon: job {created.job_id} was created and goes on; `holon jobs watch` follows it",
                    file=sys.stderr,
                )
            raise

    job_id, job = with_client(go)
    if not wait:
        if as_json:
            show_json({"status": "accepted", "job_id": job_id})
        else:
            print(job_id)
        return
    if as_json and (job is None or not job.terminal):
        show_json({"status": "accepted", "job_id": job_id})
    _end(job_id, job, as_json=as_json)


@app.command()
def watch(
    job: JobId,
    after: Annotated[
        int | None, typer.Option(help="Sequence number to start after; 0 is the beginning.", show_default="now")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Longest wait in seconds.")] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Show the log lines of the tasks, from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Follow a job to its end, also through restarts of the node.

    A terminal shows a bar, anything else plain lines. With --json, each update is one line of JSON.

    The exit codes are those of `jobs create --wait`.
    """
    _check_timeout("--timeout", timeout)

    async def go(client: Client, job_id: str) -> tuple[str, Job | None]:
        if as_json:
            return job_id, await follow(client, job_id, after, timeout, _show_update, logs=logs)
        with Bar(job_id, lines=True) as bar:
            return job_id, await follow(client, job_id, after, timeout, bar.tell, logs=logs)

    job_id, ended = with_job(job, go)
    if as_json and ended is not None and ended.terminal:
        raise typer.Exit(_ENDINGS.get(ended.status, ExitCode.FAILED))
    _end(job_id, ended, as_json=as_json)


@app.command()
def get(
    job: JobId,
    data: Annotated[bool, typer.Option("--data", help="Show the initial data and the state history, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job: its status, its state, and its result or error."""
    show_job(with_job(job, lambda client, job_id: client.get_job(job_id, data=data)), as_json=as_json, data=data)


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only jobs with this status; repeatable.")] = None,
    blueprint: Annotated[str, typer.Option(help="Only jobs of this blueprint.")] = "",
    created_after: Annotated[
        datetime | None, typer.Option(help="Only jobs created at this local time or later.")
    ] = None,
    created_before: Annotated[datetime | None, typer.Option(help="Only jobs created before this local time.")] = None,
    owner: Annotated[
        str, typer.Option(help="Only jobs of this client; @scheduler for those of schedules. For administrators.")
    ] = "",
    part_of: Annotated[str, typer.Option(metavar="JOB", help="Only child jobs of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most jobs to print.")] = 100,
    page_token: Annotated[str, typer.Option(help="The token that the page before ended with.")] = "",
    as_json: Json = False,
) -> None:
    """List jobs, newest first. Times are local."""

    async def go(client: Client) -> JobPage:
        return await client.list_page(
            statuses=status or (),
            blueprint=blueprint,
            created_after=_epoch(created_after),
            created_before=_epoch(created_before),
            owner=owner,
            parent_job_id=await whole_id(client, part_of),
            page_size=limit,
            page_token=page_token,
        )

    page = with_client(go)
    if as_json:
        jobs = [job_json(job) for job in page.jobs]
        for job in jobs:
            del job["result"]
        show_json({"jobs": jobs, "next_page_token": page.next_page_token})
        return
    ids = short_ids(job.id for job in page.jobs)
    show_table(
        ("ID", "BLUEPRINT", "STATUS", "STATE", "CREATED"),
        (
            (ids[job.id], job.blueprint_name, job.status, job.current_state, short_time(job.created_at))
            for job in page.jobs
        ),
    )
    if page.next_page_token:
        print(f"more: --page-token {safe(page.next_page_token)}")


@app.command()
def cancel(
    job: JobId,
    reason: Annotated[str, typer.Option(help="Why, for the job's history.")] = "",
    as_json: Json = False,
) -> None:
    """Request the cancellation of a job, and do not wait for its end.

    Its running tasks are cancelled. If its blueprint has a clean-up, that runs first; a second cancel ends it.
    """
    cancelled = with_job(job, lambda client, job_id: client.cancel_job(job_id, reason=reason))
    if as_json:
        show_json({"status": "cancellation_request_accepted"})
    else:
        print(f"cancellation of {safe(cancelled.id)} requested")


@app.command()
def signal(
    job: JobId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal, as in the blueprint.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", help="JSON object for the state of the job; @FILE reads a file, - standard input."
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="JOB", help="A job below it that gets the signal: a child job, or a job in a child holon."
        ),
    ] = "",
    request_id: Annotated[str | None, typer.Option(help="Id of this signal; a repeated one is delivered once.")] = None,
    as_json: Json = False,
) -> None:
    """Send a signal to a job. A job that does not wait for it yet keeps it."""
    given = None if data is None else read_data(data)

    async def go(client: Client, job_id: str) -> Job:
        below = await whole_id(client, to)
        return await client.send_signal(job_id, name, given, to_job_id=below, request_id=request_id)

    told = with_job(job, go)
    if as_json:
        show_json({"status": "signal_received", "job_id": told.id})
    else:
        print(f"{safe(told.id)}: sent {safe(name)}")


@app.command()
def approve(
    job: JobId,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="One of the decisions that `jobs get` shows.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", help="JSON object for the state of the job; @FILE reads a file, - standard input."
        ),
    ] = None,
    comment: Annotated[str, typer.Option(help="Why, for the job's history.")] = "",
    approval_id: Annotated[
        str, typer.Option(help="Id of the approval, also of a job in a child holon.", show_default="the open one")
    ] = "",
    as_json: Json = False,
) -> None:
    """Decide an approval that a job waits for."""
    given = None if data is None else read_data(data)

    async def go(client: Client, job_id: str) -> Job:
        return await client.resolve_approval(job_id, decision, data=given, comment=comment, approval_id=approval_id)

    decided = with_job(job, go)
    if as_json:
        show_json({"status": "approval_received", "job_id": decided.id})
    else:
        print(f"{safe(decided.id)}: decided {safe(decision)}")


@app.command()
def history(job: JobId, as_json: Json = False) -> None:
    """Show what happened to a job, oldest first.

    WHAT shows how the attempt or job ended and why, its task (the skill and #STEP-BRANCH), and the worker.
    """

    async def go(client: Client, job_id: str) -> list[HistoryEvent]:
        return [event async for event in client.history(job_id, page_size=1000)]

    events = with_job(job, go)
    if as_json:
        show_json({"events": events, "next_page_token": ""})
        return
    show_table(
        ("#", "TIME", "EVENT", "STATE", "MS", "WHAT"),
        (
            (
                event.sequence,
                precise_time(event.timestamp),
                shown_type(event),
                states_of(event),
                event.duration_ms,
                " ".join(filter(None, (what_of(event), attempt_of(event)))),
            )
            for event in events
        ),
    )


app.command("tree")(tree)
app.command("verify")(verify)


def _end(job_id: str, job: Job | None, *, as_json: bool) -> NoReturn:
    """End a command that waited for a job, with the job as it is now (None: that is not known)."""
    if job is None or not job.terminal:
        known = () if job is None else (f": {job.status} in {job.current_state}", job.progress_message)
        raise WaitTimedOut(f"job {job_id} has not ended yet, and goes on{'; '.join(filter(None, known))}")
    show_job(job, as_json=as_json)
    raise typer.Exit(_ENDINGS.get(job.status, ExitCode.FAILED))


def _show_update(update: Update, _: Job) -> None:
    told: dict[str, Any] = {"sequence": update.sequence}
    if update.job is not None:
        told["job"] = job_json(update.job)
    elif update.event is not None:
        told["event"] = update.event
    elif update.logs is not None:
        told["logs"] = update.logs
    else:
        told["progress"] = update.progress
    show_json(told)


def _input(data: str) -> Any:
    """What a job begins with; the client would send an empty object in the place of `null`."""
    from holon.engine.requests import check_input

    initial_data = read_data(data)
    check_input(initial_data)
    return initial_data


def _check_timeout(option: str, seconds: float | None) -> None:
    """Refuse to wait for no time at all: whoever asks for that would take it for a job that is late."""
    if seconds is not None and not seconds > 0:
        raise InvalidArgument(f"{option} is {seconds:g}; it must be a number of seconds above 0")


def _epoch(moment: datetime | None) -> float | None:
    """The epoch seconds of a local time."""
    try:
        return None if moment is None else moment.timestamp()
    except ValueError as error:
        raise InvalidArgument(f"{moment} is not a time that this machine can convert: {error}") from error


def _number(text: str | None) -> Any:
    """What an option says, as JSON would have it; what is no number stays text, which is refused as everywhere else."""
    for kind in (int, float):
        try:
            return None if text is None else kind(text)
        except ValueError:
            pass
    return text
