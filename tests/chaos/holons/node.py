"""Chaos of holons: a node of one level in a process of its own, which may have a moment to die at."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import NoReturn

import holon.worker.link
from holon.config import Config
from holon.errors import ConfigError
from holon.node import Node, Ports, run_alone
from holon.telemetry import set_up_logging
from holon.worker.link import Link
from holon.worker.session import Session
from holon.worker.timing import Timing
from tests.bench.control import obey, say
from tests.chaos.holons.blueprints import LEVELS
from tests.chaos.holons.breakage import break_them
from tests.chaos.notes import Notebook
from tests.chaos.worker import Witness
from tests.e2e.dying import mortal

# Links come back soon, so that a seed is short.
LONGEST_PAUSE_S = 1.0


async def main(notes: Notebook) -> None:
    """Run a node as the environment says, until it is signalled or the parent is gone."""
    config = Config()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    node = Node(config, LEVELS[os.environ["CHAOS_LEVEL"]](notes))

    def ready(ports: Ports) -> None:
        say(worker=ports.worker, client=ports.client)

    async with asyncio.TaskGroup() as group:
        control = group.create_task(obey(lambda: node.drain(reason="the parent is gone")))
        await node.run_until_signalled(ready)
        control.cancel()


def link_soon(notes: Notebook) -> None:
    """Have links come back soon, and each be noted."""
    pause, refused, adopt = Timing.pause, Timing.pause_refused, holon.worker.link.Link._adopt

    def shorter(timing: Timing, losses: int) -> float:
        return min(pause(timing, losses), LONGEST_PAUSE_S)

    def refused_shorter(timing: Timing, losses: int) -> float:
        return min(refused(timing, losses), LONGEST_PAUSE_S)

    def adopted(link: Link, session: Session) -> None:
        notes.write("linked", epoch=session.hello.holon_identity.uplink_epoch)
        adopt(link, session)

    Timing.pause = shorter  # type: ignore[method-assign, assignment]
    Timing.pause_refused = refused_shorter  # type: ignore[method-assign, assignment]
    Link._adopt = adopted  # type: ignore[method-assign, assignment]


def run() -> NoReturn:
    """The process."""
    notes = Notebook(Path(os.environ["CHAOS_FOLDER"]), os.environ["CHAOS_NAME"])
    Witness(notes, random.Random(os.environ["CHAOS_SEED"])).watch(defies=False)
    link_soon(notes)
    break_them(os.environ.get("CHAOS_BREAK", ""))
    mortal()
    try:
        run_alone(main(notes))
    except* ConfigError as errors:
        sys.exit(f"it cannot start: {errors.exceptions}")
    sys.exit(0)


if __name__ == "__main__":
    run()
