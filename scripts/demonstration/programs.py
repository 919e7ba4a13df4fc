"""The demo: the programs that it starts, and that end with it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from holon.config.settings import table
from scripts.demonstration.failure import Failed, Interruptions

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(30_000, 32_000)  # below where systems take the ports of outgoing connections from
STOP_SECONDS = 8.0

# What a user has set for a node or a worker of their own is not for ours.
_OURS = {*table(), "NODE_URL", "WORKER_ID", "WORKER_TOKEN", "CENSUS_LOG", "HOLON_URL", "HOLON_TOKEN", "HOLON_CA"}


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was started: its process, and the file of what it prints."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def check_alive(self) -> None:
        """Raise Failed when it ended."""
        code = self.process.poll()
        if code is not None:
            raise Failed(f"{self.name} ended by itself, with status {code}", self.output)

    def freeze(self) -> None:
        """Stop it where it stands, until `thaw` or `kill`; returns when it stands.

        Raises:
            Failed: it ended before.
        """
        self.check_alive()
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise Failed(f"{self.name} ended by itself", self.output)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL: it can do nothing about it."""
        self.process.kill()
        self.process.wait()


class Programs:
    """Starts programs, and ends those that still run when it is left; the last one started goes first.

    Arguments:
        place: the folder for what they print.
    """

    def __init__(self, place: Path, interruptions: Interruptions) -> None:
        self._place = place
        self._interruptions = interruptions
        self._programs: list[Program] = []
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept and kind is None:
            return
        with self._interruptions.held_back():
            running = [one for one in reversed(self._programs) if one.process.poll() is None]
            patience = time.monotonic() + STOP_SECONDS
            for program in running:
                program.process.terminate()
                program.process.send_signal(signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.process.wait(max(0.1, patience - time.monotonic()))
                program.kill()

    def keep(self) -> list[Program]:
        """Leave them running after a good end; returns those that run."""
        self._kept = True
        return [one for one in self._programs if one.process.poll() is None]

    def start(self, name: str, arguments: list[str], environ: Mapping[str, str]) -> Program:
        """Start a Python program of this environment, in a session of its own: a Ctrl-C is for the demo alone.

        Arguments:
            arguments: what follows `python`.
            environ: what is set besides the user's environment.
        """
        output = self._place / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if key not in _OURS}
        path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
        with self._interruptions.held_back(), output.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**inherited, "PYTHONPATH": path, "TMPDIR": str(self._place), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            program = Program(name, process, output)
            self._programs.append(program)
        return program


def wait_until(condition: Callable[[], bool], what: str, program: Program, seconds: float = 30) -> None:
    """Wait for a program to have done something.

    Raises:
        Failed: it ended instead, or took longer than that.
    """
    ends = time.monotonic() + seconds
    while not condition():
        program.check_alive()
        if time.monotonic() > ends:
            raise Failed(f"{what}: not within {seconds:.0f} s", program.output)
        time.sleep(0.02)


def free_ports(count: int, among: range = PORTS) -> list[int]:
    """Return ports of the loopback that nobody listens on.

    Raises:
        Failed: there are not that many.
    """
    found: list[int] = []
    for port in random.sample(among, len(among)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"only {len(found)} of the ports {among.start} to {among.stop - 1} are free, and {count} are needed")
