"""The bench: the node under load, in a process of its own, on one core."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from holon.config import Config
from holon.node import Node, Ports, run_alone
from holon.telemetry import set_up_logging
from tests.bench import blueprints
from tests.bench.control import Reporter, obey, say, stay_on


async def main(pipe: int, count: Callable[[], int] = int) -> None:
    """Run a node as the environment says, until the parent is gone.

    Arguments:
        pipe: where the numbers of jobs without a task go.
        count: what the parent is told with the CPU time.
    """
    config = Config()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    report = Reporter(pipe).add
    served = (blueprints.echo, blueprints.fan_out, blueprints.straight(report), blueprints.working(report))
    node = Node(config, served)
    async with asyncio.TaskGroup() as group:
        control = group.create_task(obey(node.stop, count))
        await node.run(ready)
        control.cancel()


def ready(ports: Ports) -> None:
    """Tell the parent where the doors are."""
    say(http=ports.http, worker=ports.worker)


if __name__ == "__main__":
    stay_on(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    run_alone(main(int(sys.argv[1])))
