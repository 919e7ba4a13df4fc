"""Holons below each other, whole nodes in one process: each is a worker of the one above it, `child` unless told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any

from holon import Blueprint
from holon.client import Client, TreeNode
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node

GUARD_S = 60.0


def passing(name: str, skill: str, *, first: str = "") -> Blueprint:
    """A blueprint that has what it is given done by a skill; at once, or after another."""
    made = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @made.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        if first:
            actions.dispatch_task(first, initial_data, {"success": "second", "failure": "second"})
        else:
            actions.go_to("second")

    @made.handler("second")
    async def second(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(skill, initial_data, {"success": "end"})

    @made.handler("end", is_end=True)
    async def end() -> dict[str, bool]:
        return {"done": True}

    return made


def spreading(name: str, skill: str) -> Blueprint:
    """A blueprint that has a skill do as many tasks as it is told."""
    made = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @made.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_parallel(
            [{"task_type": skill, "params": {"n": n}} for n in range(initial_data.get("branches", 4))],
            aggregate_into="end",
        )

    @made.aggregator("end")
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("over")

    @made.handler("over", is_end=True)
    async def over() -> None: ...

    return made


@asynccontextmanager
async def a_holon(
    folder: Path,
    name: str,
    *blueprints: Blueprint,
    above: RunningNode | None = None,
    certificate: str = "child",
    **settings: Any,
) -> AsyncIterator[RunningNode]:
    """A node of a holon of its own, with its store in this folder; it serves the one above, as this worker."""
    workers = folder / "workers.toml"
    if not workers.exists():
        # Others in this folder read it.
        workers.write_text('["child*"]\nkind = "holon"\ncn = "child*"\n')
    if above is not None:
        pair = above.certificate(certificate)
        settings = {
            "PARENT_URL": above.worker_url,
            "PARENT_TLS_CERT_PATH": str(pair.certificate),
            "PARENT_TLS_KEY_PATH": str(pair.key),
            "PARENT_TLS_CA_PATH": str(above.folder / "ca.pem"),
            **settings,
        }
    own: dict[str, Any] = {
        "INSTANCE_ID": name,
        "WORKERS_CONFIG_PATH": str(workers),
        "STORAGE_URI": f"sqlite:///{folder / name}.db",
        **settings,
    }
    async with running_node(*blueprints, **own) as node:
        yield node


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that nothing here can be told of."""
    try:
        async with asyncio.timeout(GUARD_S):
            while True:
                so = condition()
                if await so if isawaitable(so) else so:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not so within {GUARD_S:g} s: {what}") from None


async def tree_of(client: Client, job_id: str, **more: Any) -> list[TreeNode]:
    """All of a job's tree."""
    return [node async for node in client.tree(job_id, **more)]
