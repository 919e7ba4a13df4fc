"""Chaos: a node in a process of its own, whose wall clock its parent moves."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import NoReturn

import orjson

from holon.clock import SystemClock
from holon.config import Config
from holon.core.members import Members
from holon.errors import ConfigError
from holon.node import Node, Ports, run_alone
from holon.stores.records import SCHEMA
from holon.telemetry import set_up_logging
from tests.bench.control import say
from tests.chaos.blueprints import ALL
from tests.chaos.breakage import break_it

_NS = 1_000_000_000


class WallClock:
    """What `time.time` says in this process: as much later than it is as the parent wants."""

    def __init__(self, skew_s: float) -> None:
        self.skew_s = skew_s
        self._time_ns = time.time_ns
        time.time_ns = self._now_ns
        time.time = lambda: self._now_ns() / _NS

    def true_ms(self) -> int:
        """The time as it is, in epoch milliseconds."""
        return self._time_ns() // 1_000_000

    def _now_ns(self) -> int:
        return self._time_ns() + int(self.skew_s * _NS)


async def main(wall: WallClock) -> None:
    """Run a node as the environment says, until it is signalled or the parent is gone."""
    config = Config()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    clock = SystemClock()
    node = Node(config, ALL, clock=clock)

    def ready(ports: Ports) -> None:
        say(http=ports.http, worker=ports.worker, client=ports.client, node_ms=clock.now_ms(), true_ms=wall.true_ms())

    async with asyncio.TaskGroup() as group:
        control = group.create_task(obey(node, wall))
        await node.run_until_signalled(ready)
        control.cancel()


async def obey(node: Node, wall: WallClock) -> None:
    """Set the wall clock as each line says; drain once the parent is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        wall.skew_s = orjson.loads(line)["skew_s"]
    node.drain(reason="the parent is gone")


def run() -> NoReturn:
    """The process."""
    # Before anything reads the time.
    wall = WallClock(float(os.environ["CHAOS_SKEW_S"]))
    break_it(os.environ.get("CHAOS_BREAK", ""))
    # What this node reads is told to the others; rows of the next schema there are none yet.
    Members.__init__.__defaults__ = (int(os.environ.get("CHAOS_READS", SCHEMA)),)
    try:
        run_alone(main(wall))
    except* ConfigError as errors:
        # Its store is away: whoever started it sees to that.
        sys.exit(f"it cannot start: {errors.exceptions}")
    sys.exit(0)


if __name__ == "__main__":
    run()
