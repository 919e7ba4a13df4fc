"""The soak: the node, as its users run it, in a process of its own."""

from __future__ import annotations

import asyncio

from holon.config import Config
from holon.node import Node, Ports, run_alone
from holon.telemetry import set_up_logging
from tests.bench.control import obey, say
from tests.soak.blueprints import ALL


async def main() -> None:
    """Run a node as the environment says, until the parent is gone."""
    config = Config()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    node = Node(config, ALL)
    async with asyncio.TaskGroup() as group:
        control = group.create_task(obey(node.stop))
        await node.run(ready)
        control.cancel()


def ready(ports: Ports) -> None:
    """Tell the parent where the doors are."""
    say(http=ports.http, worker=ports.worker, client=ports.client)


if __name__ == "__main__":
    run_alone(main())
