"""Chaos: a program that is killed, stopped, paused and started again, each time as a new process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.bench.process import BenchError, Child

START_AGAIN_S = 0.3
# A program that cannot start for so long will not.
MOST_STARTS = 100


class Life:
    """One program and its processes, one after the other.

    Arguments:
        name: of the program; each of its processes has a log of its own.
        module: what it runs.
        environment: all of its variables, for each new process.
        folder: where the logs go.
        started: called with what each process said when it was ready.
        meant: whether a process that ended by itself, with this code, was to do so.

    Attributes:
        wrong: what must not have happened to it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        environment: Callable[[], dict[str, str]],
        folder: Path,
        started: Callable[[dict[str, Any]], None] = lambda _: None,
        meant: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self.wrong: list[str] = []
        self._module = module
        self._environment = environment
        self._folder = folder
        self._started = started
        self._meant = meant
        # One process at a time: one may end by itself while another is to be started, or all of it is to end.
        self._alone = asyncio.Lock()
        self._child: Child | None = None
        self._births = 0
        self._watch: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Life({self.name}, births={self._births}, facts={self.facts})"

    @property
    def facts(self) -> dict[str, Any]:
        """What the process of now said; nothing while there is none."""
        return self._child.facts if self._child is not None else {}

    async def start(self) -> None:
        """Start a process and wait until it is ready; again while it ends before, as a node does without its store.

        Raises:
            BenchError: it does not start; with the end of its log.
        """
        async with self._alone:
            if self._child is None:
                await self._start()

    async def _start(self) -> None:
        for number in range(MOST_STARTS):
            self._births += 1
            log = self._folder / f"{self.name}.{self._births}.log"
            child = Child(self._module, (), self._environment(), log)
            try:
                await child.__aenter__()
            except BenchError as error:
                if number == MOST_STARTS - 1:
                    raise BenchError(f"{error}\n{child.tail()}") from error
                await asyncio.sleep(START_AGAIN_S)
                continue
            self._child = child
            self._watch = asyncio.create_task(self._notice(child), name=f"watch-{self.name}")
            self._started(child.facts)
            return

    async def kill(self) -> None:
        """End its process as `kill -9` does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask its process to end, and wait until it has; it must do so, and say that all is well."""
        child = self._child
        # It may have a moment to die at, and meet that on its way out; what was before excuses nothing.
        met = self._meant(-signal.SIGKILL)
        if child is not None and (code := await self._end(signal.SIGTERM)) and (met or not self._meant(code)):
            self.wrong.append(f"{self.name} ended with {code} when it was asked to end\n{child.tail()}")

    async def pause(self, seconds: float) -> None:
        """Stop its process for a while, as a machine that swaps does."""
        child = self._child
        if child is None:
            return
        # It may have just met its moment to die at, and nobody has heard of that yet.
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(child.pid, signal.SIGCONT)

    def tell(self, line: bytes) -> None:
        """Send its process a line."""
        if self._child is not None:
            self._child.stdin.write(line + b"\n")

    def errors(self) -> list[str]:
        """The lines of all its logs that tell of an error."""
        logs = sorted(self._folder.glob(f"{self.name}.*.log"))
        lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
        return [line for line in lines if any(word in line for word in ("CRITICAL", "Traceback", '"ERROR"', " ERROR "))]

    async def _end(self, number: int) -> int:
        async with self._alone:
            child, self._child = self._child, None
            if self._watch is not None:
                self._watch.cancel()
        if child is None:
            return 0
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)
        try:
            await child.__aexit__(None, None, None)
        except asyncio.CancelledError:
            # The next one is not to meet it.
            os.kill(child.pid, signal.SIGKILL)
            raise
        finally:
            code = await child.ended()
        return code

    async def _notice(self, child: Child) -> None:
        """A process that ends by itself is a fault of its own, if it was not to; it is started again all the same."""
        code = await child.ended()
        self._child = None
        if not self._meant(code):
            self.wrong.append(f"{self.name} ended by itself with {code}\n{child.tail()}")
        await child.__aexit__(None, None, None)
        await self.start()
