"""Python programs for tests, started by a fork of a process that has imported the node already.

That import is most of what a start costs, and tests start many. Each is a process of its own all the same, with its
own session, environment, folder, streams and exit code; that a fresh interpreter does as well is for the tests of the
command line, the quick start, the bench and the wheel.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Program:
    """A program that was started, as `asyncio.subprocess` has others."""

    def __init__(self, pid: int, ended: Future[int]) -> None:
        self.pid = pid
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        """Its exit code once it has ended, less than 0 for a signal."""
        return self._ended.result() if self._ended.done() else None

    def send_signal(self, number: int) -> None:
        # It may have ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        # Another may wait for it too when this one is cancelled.
        return await asyncio.shield(asyncio.wrap_future(self._ended))

    def wait_here(self, seconds: float) -> int:
        """Wait without a loop; raises TimeoutError when it goes on for longer."""
        return self._ended.result(seconds)


class Forks:
    """The process that forks, and what it tells of the others."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._channel = ours
        self._turn = threading.Lock()
        self._started: Future[Program] = Future()
        self._running: dict[int, Future[int]] = {}
        self._listening = threading.Thread(target=self._listen, name="forks", daemon=True)
        self._listening.start()

    def start(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        streams: tuple[int, int, int],
        pipes: Sequence[int] = (),
    ) -> Program:
        """Start a program.

        Arguments:
            arguments: those of Python: `-c` and the program, `-m` and its module, or its file's path; then its own.
            streams: the descriptors that are to be its standard input, output and error.
            pipes: those that it is to have besides, under the same numbers.
        """
        asked = {"arguments": list(arguments), "env": dict(env), "folder": str(folder), "pipes": list(pipes)}
        with self._turn:
            self._started = Future()
            line = json.dumps(asked).encode() + b"\n"
            # The descriptors are with the first of it, however much goes at once.
            sent = socket.send_fds(self._channel, [line], [*streams, *pipes])
            self._channel.sendall(line[sent:])
            return self._started.result(60)

    def close(self) -> None:
        """End it, and all that it started."""
        self._channel.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._listening.join()
        self._channel.close()

    def _listen(self) -> None:
        with self._channel.makefile("r") as lines:
            for line in lines:
                pid, code = json.loads(line)
                if code is None:
                    self._running[pid] = Future()
                    self._started.set_result(Program(pid, self._running[pid]))
                else:
                    self._running.pop(pid).set_result(code)


@cache
def forks() -> Forks:
    """The one of this process."""
    made = Forks()
    atexit.register(made.close)
    return made
