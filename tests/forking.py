"""The process that forks Python programs for tests, as `tests.forks` asks it to."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

# Standard streams, and the pipes of a program.
MOST_DESCRIPTORS = 16


def forked(channel: socket.socket) -> dict[str, Any]:
    """Fork as it is asked, and tell of starts and ends; returns in each child, with what is asked of that."""
    heard, rung = os.pipe()
    os.set_blocking(rung, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
    # It ends with its parent, and all that it started with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    with selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ)
        ready.register(heard, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj == heard:
                    os.read(heard, 1_000)
                    _tell_ends(channel, running)
                    continue
                line, descriptors = _asked(channel)
                if not line:
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                if pid := os.fork():
                    running.add(pid)
                    for one in descriptors:
                        os.close(one)
                    channel.sendall(b"[%d, null]\n" % pid)
                    continue
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                ready.close()
                channel.close()
                os.close(heard)
                os.close(rung)
                asked: dict[str, Any] = json.loads(line)
                _take(descriptors, [0, 1, 2, *asked["pipes"]])
                return asked


def _asked(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The next line, and the descriptors that came with it; an empty one at the end."""
    line, descriptors, *_ = socket.recv_fds(channel, 65_536, MOST_DESCRIPTORS)
    while line and not line.endswith(b"\n"):
        line += channel.recv(65_536) or sys.exit("the parent is gone in the middle of a line")
    return line, descriptors


def _tell_ends(channel: socket.socket, running: set[int]) -> None:
    # One at a time: two signals may have been one.
    for pid in sorted(running):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            running.remove(pid)
            with contextlib.suppress(OSError):
                channel.sendall(b"[%d, %d]\n" % (pid, os.waitstatus_to_exitcode(status)))


def _take(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Have descriptors under these numbers, which may be those of others of them."""
    aside = [fcntl.fcntl(one, fcntl.F_DUPFD, max(numbers) + 1) for one in descriptors]
    for one in descriptors:
        os.close(one)
    for one, number in zip(aside, numbers, strict=True):
        os.dup2(one, number)
        os.close(one)


def _open_streams() -> None:
    """Open the standard streams anew: those of before know of the files that they had."""
    unbuffered = "PYTHONUNBUFFERED" in os.environ
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        raw = io.FileIO(number, mode, closefd=False)
        binary = io.BufferedReader(raw) if mode == "r" else raw if unbuffered else io.BufferedWriter(raw)
        by_line = name == "stderr" or os.isatty(number)
        errors = "backslashreplace" if name == "stderr" else None
        stream = io.TextIOWrapper(
            cast("BinaryIO", binary), "utf-8", errors, line_buffering=by_line, write_through=unbuffered
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def become(asked: dict[str, Any]) -> None:
    """Run the program as Python would."""
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    _open_streams()
    first, *arguments = asked["arguments"]
    if first == "-c":
        program, *arguments = arguments
        sys.argv, sys.path[0] = ["-c", *arguments], ""
        exec(program, {"__name__": "__main__"})
    elif first == "-m":
        module, *arguments = arguments
        sys.argv, sys.path[0] = ["-m", *arguments], asked["folder"]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *arguments], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    gc.disable()
    # What a node, a worker and a client need; none of them starts a thread, nor gRPC's core, which could not be forked.
    import holon.cli.app
    import holon.client
    import holon.node
    import holon.storage.redis
    import holon.worker  # noqa: F401

    gc.freeze()
    gc.enable()
    become(forked(socket.socket(fileno=int(sys.argv[1]))))
