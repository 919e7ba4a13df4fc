"""The bench: the parent's side of a child process."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_TAIL = 4000
_TROUBLE = ("ERROR", "CRITICAL", "Traceback")


class BenchError(Exception):
    """Expected: a run cannot be made, or what it measured is not true; the message says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How much CPU a process had used at one time, both in seconds, and its own count of what it had done."""

    cpu: float
    time: float
    count: int = 0


class Running(Protocol):
    """A process that was started, as `asyncio.subprocess` has it."""

    @property
    def pid(self) -> int: ...

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


async def spawn(arguments: tuple[str, ...], environment: dict[str, str], log: Path, pipes: tuple[int, ...]) -> Running:
    """Start Python with these arguments; all else as `Child` says."""
    with log.open("wb") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=environment,
            pass_fds=pipes,
            # Ctrl-C is for the parent, which ends its children in order.
            start_new_session=True,
        )


class Child:
    """One process of a run, while it is entered. It ends when it is left, and with its parent however that ends.

    Arguments:
        module: what it runs.
        arguments: its command line.
        environment: all of its variables.
        log: the file for its standard error.
        pipes: descriptors that it inherits.

    Attributes:
        facts: what it said when it was ready.
    """

    def __init__(
        self,
        module: str,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        log: Path,
        pipes: tuple[int, ...] = (),
    ) -> None:
        self._command = ("-m", module, *arguments)
        self._environment = environment
        self._log = log
        self._pipes = pipes
        self._process: Running
        self.facts: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            BenchError: it ended before, or was not ready in time; with the end of its log.
        """
        self._process = await spawn(self._command, self._environment, self._log, self._pipes)
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.facts = await self._hear()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What it reads lines from."""
        if self._process.stdin is None:
            raise BenchError(f"{self._command[1]} cannot be asked")
        return self._process.stdin

    async def ended(self) -> int:
        """Wait until it has ended; its exit code, or less than 0 for a signal."""
        return await self._process.wait()

    async def usage(self) -> Usage:
        """Return what it used so far."""
        self.stdin.write(b"\n")
        facts = await self._hear()
        return Usage(facts["cpu"], facts["time"], facts["count"])

    async def kill(self) -> None:
        """End it with SIGKILL: it can do nothing about it."""
        self._process.kill()
        await self._process.wait()

    def resident_kib(self) -> int:
        """Return how much memory it has in RAM now, in KiB.

        Raises:
            BenchError: this system does not tell.
        """
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError as error:
            raise BenchError(f"a process's memory is read from /proc, as Linux has it: {error}") from error
        return pages * resource.getpagesize() // 1024

    def errors(self) -> str:
        """Return the lines of its log that tell of an error."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if any(word in line for word in _TROUBLE))

    def tail(self) -> str:
        """Return the end of its log."""
        text = self._log.read_text(errors="replace").strip()
        return f"--- the log of {self._command[1]} ends ---\n{text[-_TAIL:]}" if text else ""

    async def _hear(self) -> dict[str, Any]:
        if self._process.stdout is None or not (line := await self._process.stdout.readline()):
            raise BenchError(f"{self._command[1]} ended by itself")
        facts: dict[str, Any] = json.loads(line)
        return facts

    async def _end(self) -> None:
        """Ask it to end; then make it."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
