"""Holons of real processes: a parent, a child that serves it, and the child's own worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from holon.client import Client
from holon.security import certificates
from tests.e2e.processes import HERE, Node, Process, WorkLogs

BLUEPRINTS = HERE / "holarchy"


@dataclass
class Family:
    """A parent without workers of its own, its child, and the leaf that works for that."""

    parent: Node
    child: Node
    leaf: Process

    @property
    def work(self) -> WorkLogs:
        """What the leaf has begun and ended."""
        return WorkLogs(self.child.folder, "leaf")


async def children(parent: Node) -> list[str]:
    """The workers that are linked with a parent."""
    async with Client(parent.client_url, parent.token, parent.ca) as operator:
        return [one.worker_id async for one in operator.node.list_workers()]


def holon_node(
    folder: Path, name: str, parent: Node | None = None, kind: type[Node] = Node, **settings: object
) -> Node:
    """A node of a holon of its own, which serves the parent as the worker `child`."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    workers = own / "workers.toml"
    workers.write_text('["child*"]\nkind = "holon"\ncn = "child*"\n')
    if parent is not None:
        # In its own folder: one that another holon of this name has already is not renewed.
        pair = certificates.issue_worker(parent.authority, own, name, days=2)
        settings = {
            "PARENT_URL": f"grpcs://localhost:{parent.grpc}",
            "PARENT_TLS_CERT_PATH": pair.certificate,
            "PARENT_TLS_KEY_PATH": pair.key,
            "PARENT_TLS_CA_PATH": parent.ca,
            **settings,
        }
    blueprints = BLUEPRINTS / ("root" if parent is None else "below")
    return kind(own, blueprints, **{"WORKERS_CONFIG_PATH": workers, "INSTANCE_ID": name, **settings})


@contextlib.asynccontextmanager
async def a_family(
    folder: Path,
    *,
    leaf: Mapping[str, object] = MappingProxyType({}),
    above: Mapping[str, object] = MappingProxyType({}),
    kind: type[Node] = Node,
    port: int | None = None,
    **settings: object,
) -> AsyncIterator[Family]:
    """All of it, running; it does not outlive its test.

    Arguments:
        leaf, above, settings: settings of the leaf, the parent and the child.
        kind: of each node.
        port: where the child finds its parent, if not at its door.
    """
    parent = holon_node(folder, "parent", None, kind, **above)
    if port is not None:
        settings["PARENT_URL"] = f"grpcs://localhost:{port}"
    child = holon_node(folder, "child", parent, kind, **settings)
    worker = child.worker("leaf", "echo_worker.py", **leaf)
    try:
        await parent.start()
        await child.start()
        await worker.start()
        yield Family(parent, child, worker)
    finally:
        if worker.alive:
            await worker.end()
        await child.close()
        await parent.close()
