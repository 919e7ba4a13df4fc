"""Chaos of holons: a worker of the last level. It writes down what it begins, does and stops, and when."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from pathlib import Path
from typing import Any

from holon.worker import TaskError, Worker
from tests.bench.control import obey, say
from tests.chaos.holons.blueprints import CLEAN, LEAF
from tests.chaos.holons.node import link_soon
from tests.chaos.notes import Notebook
from tests.chaos.worker import QUICK, Witness, drain_at_a_signal

CREDITS = 16
# Whose parent tries again what has failed here, to any level.
FAILS = 0.1


async def main() -> None:
    """Serve its holon until drained by a signal or by the end of the parent."""
    notes = Notebook(Path(os.environ["CHAOS_FOLDER"]), os.environ["CHAOS_NAME"])
    dice = random.Random(os.environ["CHAOS_SEED"])
    Witness(notes, dice).watch(defies=False)
    link_soon(notes)
    worker = Worker(max_concurrent=CREDITS, drain_grace=1.0, timing=QUICK)

    @worker.skill(LEAF)
    async def leaf(unit: str, seconds: float, task_id: str, attempt: int) -> dict[str, Any]:
        run = secrets.token_hex(4)
        notes.write("began", unit=unit, run=run, task=task_id, attempt=attempt)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            notes.write("halted", unit=unit, run=run, task=task_id)
            raise
        if dice.random() < FAILS and not unit.endswith(CLEAN):
            notes.write("failed", unit=unit, run=run, task=task_id)
            raise TaskError("PERMANENT_ERROR", "as happens")
        notes.write("did", unit=unit, run=run, task=task_id)
        return {"tokens": [f"{unit} {run}"]}

    # What an earlier process of this name had begun is lost.
    notes.write("born", credits=CREDITS)
    serving = asyncio.create_task(worker.serve())
    drain = drain_at_a_signal(worker)
    say(ready=True)
    control = asyncio.create_task(obey(drain))
    await serving
    control.cancel()


if __name__ == "__main__":
    asyncio.run(main())
