"""Python programs for tests, started by a fork of a process that has imported the node already.

That import is most of what a start costs, and tests that kill start many. Each is a process of its own all the same,
with its own environment, folder, output and exit code; that a fresh interpreter does as well is for the tests of the
command line, the quick start and the wheel.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Forks:
    """The process that forks, and what it tells of the others."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.forks", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._channel = ours
        self._turn = threading.Lock()
        self._started: Future[tuple[int, Future[int]]] = Future()
        self._running: dict[int, Future[int]] = {}
        self._listening = threading.Thread(target=self._listen, name="forks", daemon=True)
        self._listening.start()

    def start(
        self, arguments: Sequence[str], env: dict[str, str], folder: Path, output: Path
    ) -> tuple[int, Future[int]]:
        """Start a program; its process id, and its exit code once it has ended, less than 0 for a signal.

        Arguments:
            arguments: those of Python: `-c` with the program or the path of its file, then its own.
            output: the file to which it appends what it prints.
        """
        asked = {"arguments": list(arguments), "env": env, "folder": str(folder), "output": str(output)}
        with self._turn:
            self._started = Future()
            self._channel.sendall(json.dumps(asked).encode() + b"\n")
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
                    self._started.set_result((pid, self._running[pid]))
                else:
                    self._running.pop(pid).set_result(code)


@cache
def forks() -> Forks:
    """The one of this process."""
    made = Forks()
    atexit.register(made.close)
    return made


# In the process that forks -------------------------------------------------------------------------------------------


def _next(channel: socket.socket) -> dict[str, Any]:
    """Fork as it is asked, and tell of starts and ends; returns in each child, with what is asked of that."""
    heard, rung = os.pipe()
    os.set_blocking(rung, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
    running: set[int] = set()
    lines = channel.makefile("rb", buffering=0)
    with selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ)
        ready.register(heard, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj == heard:
                    os.read(heard, 1_000)
                    _tell_ends(channel, running)
                elif not (line := lines.readline()):
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                elif pid := os.fork():
                    running.add(pid)
                    channel.sendall(b"[%d, null]\n" % pid)
                else:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    ready.close()
                    lines.close()
                    channel.close()
                    os.close(heard)
                    os.close(rung)
                    asked: dict[str, Any] = json.loads(line)
                    return asked


def _tell_ends(channel: socket.socket, running: set[int]) -> None:
    # One at a time: two signals may have been one.
    for pid in sorted(running):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            running.remove(pid)
            with contextlib.suppress(OSError):
                channel.sendall(b"[%d, %d]\n" % (pid, os.waitstatus_to_exitcode(status)))


def _become(asked: dict[str, Any]) -> None:
    """Run the program as Python would."""
    output = os.open(asked["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    first, *arguments = asked["arguments"]
    if first == "-c":
        program, *arguments = arguments
        sys.argv, sys.path[0] = ["-c", *arguments], ""
        exec(program, {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = [first, *arguments], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    gc.disable()
    # What a node and a worker need; neither starts a thread, nor gRPC's core, which could not be forked.
    import holon.cli.app
    import holon.node
    import holon.storage.redis
    import holon.worker  # noqa: F401

    gc.freeze()
    gc.enable()
    _become(_next(socket.socket(fileno=int(sys.argv[1]))))
