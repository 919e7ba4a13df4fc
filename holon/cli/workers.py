"""The command line: `holon workers` looks at the workers of a node, and drains them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from holon.cli.connection import NAMED, with_client
from holon.cli.output import Json, local_time, safe, show_json, show_table

if TYPE_CHECKING:
    from holon.client import Client, SkillInfo, WorkerInfo

app = typer.Typer(help=f"The workers of a node. {NAMED}", no_args_is_help=True)


@app.command("list")
def list_(
    skill: Annotated[str, typer.Option(help="Only workers that offer this skill.")] = "", as_json: Json = False
) -> None:
    """List the workers that are connected, by id."""

    async def go(client: Client) -> list[WorkerInfo]:
        return [one async for one in client.node.list_workers(skill=skill)]

    found = with_client(go)
    if as_json:
        show_json({"workers": [asdict(one) for one in found]})
        return
    show_table(
        ("WORKER", "SKILLS", "HOLDS", "OF", "STATE", "SINCE", "LABELS", "SDK"),
        (
            (
                one.worker_id,
                ", ".join(one.skills),
                one.held,
                one.credits,
                "draining" if one.draining else "working",
                local_time(one.connected_at),
                ", ".join(f"{name}={text}" for name, text in sorted(one.labels.items())),
                one.sdk,
            )
            for one in found
        ),
    )


@app.command()
def catalog(as_json: Json = False) -> None:
    """List the skills that they offer, one line for each contract."""

    async def go(client: Client) -> list[SkillInfo]:
        return [one async for one in client.node.list_skills()]

    found = with_client(go)
    if as_json:
        show_json({"skills": [asdict(one) for one in found]})
        return
    show_table(
        ("SKILL", "TYPE", "VERSION", "WORKERS", "DESCRIPTION"),
        ((one.name, one.type, one.version, one.providers, one.description) for one in found),
    )


@app.command()
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take an earlier drain back.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the node's log.")] = "",
    as_json: Json = False,
) -> None:
    """Give a worker no more tasks until it starts again; what it holds it goes on with."""
    found = with_client(lambda client: client.node.drain_worker(worker, undo=undo, reason=reason))
    if as_json:
        show_json({"worker": asdict(found)})
    elif found.draining:
        print(f"{safe(worker)} gets no more tasks; it holds {found.held}")
    else:
        print(f"{safe(worker)} gets tasks again")
