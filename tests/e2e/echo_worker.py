"""A worker for end-to-end tests: it echoes after a while, and writes down what it began, ended, and had to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson

from holon.worker import TaskError, Worker
from holon.worker.progress import Progress
from holon.worker.timing import Timing

# A node that is killed every few seconds is met again soon.
worker = Worker(max_concurrent=int(os.environ.get("MAX_CONCURRENT", "100")), timing=Timing(reconnect_longest=1.0))
LOG = Path(os.environ["WORK_LOG"]).open("ab", buffering=0)  # noqa: SIM115  open as long as the process


def note(what: str, task_id: str, attempt: int, deadline: float | None = None) -> None:
    line = {"what": what, "task": task_id, "attempt": attempt, "pid": os.getpid(), "deadline": deadline}
    LOG.write(orjson.dumps(line) + b"\n")


@worker.skill("echo")
async def echo(params: dict[str, Any], task_id: str, attempt: int, deadline: float | None) -> dict[str, Any]:
    note("begin", task_id, attempt, deadline)
    try:
        await asyncio.sleep(params.get("seconds", 0))
    except asyncio.CancelledError:
        note("stopped", task_id, attempt)
        raise
    note("end", task_id, attempt)
    return {"echo": params.get("n")}


@worker.skill("die")
async def die(task_id: str, attempt: int) -> dict[str, Any]:
    note("begin", task_id, attempt)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@worker.skill("mortal", price=1)
def mortal(kills: int, task_id: str, attempt: int) -> dict[str, Any]:
    note("begin", task_id, attempt)
    if Path(LOG.name).read_bytes().count(b"begin") <= kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


@worker.skill("fail")
async def fail(code: str = "TRANSIENT_ERROR", message: str = "on purpose") -> dict[str, Any]:
    raise TaskError(code, message)


@worker.skill("tell")
async def tell(upto: float, progress: Progress) -> dict[str, Any]:
    progress(upto / 2, "half of it")
    await asyncio.sleep(1.2)
    progress(upto, "all of it")
    await asyncio.sleep(1.2)
    return {}


if __name__ == "__main__":
    worker.run()
