"""The command line: `holon workers` looks at the workers of all nodes of a store, and drains them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holon.cli.connection import NAMED, with_client
from holon.cli.job_ids import short_ids
from holon.cli.output import Json, json_text, one_line, precise_time, safe, short_time, show_json, show_table
from holon.cli.watching import attempt_of, shown_type, what_of

if TYPE_CHECKING:
    from holon.client import Client, HistoryEvent, MachineLoad, ReputationInfo, SkillInfo, WorkerInfo

app = typer.Typer(help=f"Workers that are connected to a node or to its peers. {NAMED}", no_args_is_help=True)

# Of each machine so many characters are shown, and of a worker so many machines; a holon may tell of 32.
_SHOWN = 80
_MACHINES = 3


@app.command("list")
def list_(
    skill: Annotated[str, typer.Option(help="Only workers that offer this skill.")] = "",
    wide: Annotated[
        bool, typer.Option("--wide", help="Add nodes, reputation, machines, labels and SDKs; over 80 columns.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the connected workers, by id. HOLDS shows the tasks that each has, and the most that it takes."""

    async def go(client: Client) -> list[WorkerInfo]:
        return [one async for one in client.node.list_workers(skill=skill)]

    found = with_client(go)
    if as_json:
        show_json({"workers": [asdict(one) for one in found], "next_page_token": ""})
        return
    columns: dict[str, Callable[[WorkerInfo], object]] = {
        "WORKER": lambda one: one.worker_id,
        "SKILLS": lambda one: ", ".join(one.skills),
        "HOLDS": lambda one: f"{one.held}/{one.credits}",
        "STATE": lambda one: "draining" if one.draining else "working",
        "SINCE": lambda one: short_time(one.connected_at),
        "LOAD": lambda one: _load(one.load),
    }
    if wide:
        columns |= {
            "NODE": lambda one: one.node_id,
            "REPUTATION": lambda one: _reputations(one),
            "MACHINES": lambda one: _machines(one.resources),
            "LABELS": lambda one: ", ".join(f"{name}={text}" for name, text in sorted(one.labels.items())),
            "SDK": lambda one: one.sdk,
        }
    show_table(list(columns), ([show(one) for show in columns.values()] for one in found))
    for one in found:
        for warning in one.warnings:
            print(f"{safe(one.worker_id)}: {safe(warning)}", file=sys.stderr)


@app.command()
def history(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker; it need not be connected.")],
    limit: Annotated[int, typer.Option(min=1, help="Most events to print.")] = 100,
    as_json: Json = False,
) -> None:
    """Show the events of a worker's tasks, newest first. Needs a node with HISTORY_DATABASE_URI."""

    async def go(client: Client) -> list[HistoryEvent]:
        found: list[HistoryEvent] = []
        async with aclosing(client.node.worker_history(worker, page_size=min(limit, 1000))) as events:
            async for event in events:
                found.append(event)
                if len(found) == limit:
                    break
        return found

    events = with_client(go)
    if as_json:
        show_json({"events": events})
        return
    ids = short_ids(event.job_id for event in events)
    show_table(
        ("TIME", "EVENT", "JOB", "#", "MS", "WHAT"),
        (
            (
                precise_time(event.timestamp),
                shown_type(event),
                ids[event.job_id],
                event.sequence,
                event.duration_ms,
                " ".join(filter(None, (what_of(event), attempt_of(event, by=False)))),
            )
            for event in events
        ),
    )


@app.command()
def catalog(as_json: Json = False) -> None:
    """List the skills of the connected workers, one line for each contract."""

    async def go(client: Client) -> list[SkillInfo]:
        return [one async for one in client.node.list_skills()]

    found = with_client(go)
    if as_json:
        show_json({"skills": [asdict(one) for one in found], "next_page_token": ""})
        return
    show_table(
        ("SKILL", "TYPE", "VERSION", "WORKERS", "REPUTATION", "DESCRIPTION"),
        (
            (
                one.name,
                one.type,
                one.version,
                one.provider_count,
                _reputation(one.average_reputation),
                one.description,
            )
            for one in found
        ),
    )


@app.command()
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker.")],
    undo: Annotated[bool, typer.Option("--undo", help="Give it tasks again.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the node's log.")] = "",
    as_json: Json = False,
) -> None:
    """Give a worker no more tasks until it restarts. It finishes the tasks that it has."""
    found = with_client(lambda client: client.node.drain_worker(worker, undo=undo, reason=reason))
    if as_json:
        show_json({"worker": asdict(found)})
    elif found.draining:
        print(f"{safe(worker)} gets no more tasks; it holds {found.held}")
    else:
        print(f"{safe(worker)} gets tasks again")


def _reputation(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _reputations(worker: WorkerInfo) -> str:
    """A worker's reputations by skill with their reasons, the lowest first; of skills that are not named it is 1."""
    if not worker.reputations:
        return _reputation(worker.reputation)
    return "; ".join(map(_of_skill, worker.reputations))


def _of_skill(one: ReputationInfo) -> str:
    why = ", ".join(f"{reason.count} {reason.code}" for reason in one.reasons)
    last = max((reason.last_at for reason in one.reasons), default=None)
    told = f" ({why}, last {short_time(last)})" if why else ""
    return f"{one.skill} {_reputation(one.reputation)}{' gets no tasks' if one.excluded else ''}{told}"


def _load(load: MachineLoad | None) -> str:
    """How busy a worker's machine is, briefly; `--json` has all of it."""
    if load is None:
        return ""
    processors = "" if load.cpu_percent is None else f"{load.cpu_percent:.0f} % CPU"
    devices = [f"{one.device_id} {one.percent:.0f} %" for one in load.devices if one.percent is not None]
    return one_line(", ".join(filter(None, (processors, _memory(load), *devices))), _SHOWN)


def _memory(load: MachineLoad) -> str:
    if load.memory_used_bytes is None:
        return ""
    of = "" if load.memory_total_bytes is None else f" of {load.memory_total_bytes / 1e9:.1f}"
    return f"{load.memory_used_bytes / 1e9:.1f}{of} GB"


def _machines(resources: Sequence[Mapping[str, Any]]) -> str:
    """What a worker's machines have, briefly; `--json` has all of it."""
    shown = [one_line(_machine(one), _SHOWN) for one in resources[:_MACHINES]]
    return "; ".join([*shown, *([f"and {len(resources) - _MACHINES} more"] if resources[_MACHINES:] else [])])


def _machine(machine: Mapping[str, Any]) -> str:
    devices = [
        " ".join(filter(None, (one["type"], one["model"], *_said(one["properties"])))) for one in machine["devices"]
    ]
    return ", ".join([*_said(machine["properties"]), *devices])


def _said(properties: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value if isinstance(value, str) else json_text(value)}" for name, value in properties.items()]
