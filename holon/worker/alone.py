"""The worker SDK: the loop of a worker that is run by itself, and its end, which no handler can hold up for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from holon.worker.executor import LoopExecutor

_log = logging.getLogger("holon.worker")

# So long what is cancelled at the end of the loop has for it, and then what runs in its threads, in seconds.
LAST_S = 2.0
# What ends may begin others, which are cancelled too, and those that they begin, so often.
_ROUNDS = 10


def run_alone(serve: Callable[[], Coroutine[Any, Any, None]], last: float = LAST_S) -> None:
    """Await what this makes, as `asyncio.run` does; but what it leaves behind is waited for no longer than so.

    Arguments:
        last: how long what is cancelled then may go on, in seconds, and after that what runs in the loop's threads.
    Raises:
        RuntimeError: there is a loop already.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("run() starts an event loop, but one already runs here; use `await serve()` or `async with`")
    with asyncio.Runner() as runner:
        # The runner shuts it down, and would wait for one of Python's own as long as its threads take.
        runner.get_loop().set_default_executor(LoopExecutor(last))
        try:
            runner.run(serve())
        finally:
            # Here, for the runner itself waits for all that it cancels, however long that takes.
            runner.run(_end_all(last))


async def _end_all(last: float) -> None:
    me, now = asyncio.current_task(), asyncio.get_running_loop().time
    ends = now() + last
    left: set[asyncio.Task[Any]] = set()
    for _ in range(_ROUNDS):
        others = asyncio.all_tasks() - {me} - left
        if not others:
            break
        for task in others:
            task.cancel()
        _, deaf = await asyncio.wait(others, timeout=max(ends - now(), last / _ROUNDS))
        left |= deaf
    for task in left:
        _leave(task)


def _leave(task: asyncio.Task[Any]) -> None:
    if task.done():
        return
    _log.error("%s ignores its cancel; the program ends without waiting for it", task.get_name())
    # The runner waits for those that are known to the loop.
    asyncio.tasks._unregister_task(task)  # noqa: SLF001  documented, for whoever makes tasks of his own
    known: Any = task
    # It was said.
    known._log_destroy_pending = False  # noqa: SLF001
