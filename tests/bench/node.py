"""The bench: the node under load, in a process of its own, on one core."""

from __future__ import annotations

import asyncio
import sys

from holon.config import Config
from holon.node import Node, Ports, run_alone
from holon.telemetry import set_up_logging
from tests.bench import blueprints
from tests.bench.control import obey, say, stay_on


async def main() -> None:
    """Run a node as the environment says, until the parent is gone."""
    config = Config()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    node = Node(config, (blueprints.echo, blueprints.fan_out))
    async with asyncio.TaskGroup() as group:
        control = group.create_task(obey(node.stop))
        await node.run(ready)
        control.cancel()


def ready(ports: Ports) -> None:
    """Tell the parent where the doors are."""
    say(http=ports.http, worker=ports.worker)


if __name__ == "__main__":
    stay_on(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    run_alone(main())
