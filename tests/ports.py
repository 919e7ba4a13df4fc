"""Ports for servers of tests: one that was given to a test is nobody else's until its process has ended."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from functools import cache
from pathlib import Path

# Below those that the demonstration takes, and those that the system gives to clients.
FIRST, END = 20_000, 30_000


@cache
def _taken() -> int:
    """A file in which the byte of each port that was given is locked by the process that has it.

    Between being given and being bound, and while a server is dead before it starts again, a port is free for whoever
    looks; other runs of tests look too.
    """
    path = Path(tempfile.gettempdir()) / f"holon-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


_own: set[int] = set()


def free_ports(count: int, *, bus: int = 0) -> list[int]:
    """Return ports of the loopback that nobody listens on, and that are given to nobody else.

    Arguments:
        bus: how much lower than each a second port has to be free too; 0 for none.
    """
    found: list[int] = []
    for port in range(FIRST + secrets.randbelow((END - FIRST) // 2), END):
        if _is_free(port) and (not bus or _is_free(port - bus)) and _take(port):
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"no {count} free ports between {FIRST} and {END}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _take(port: int) -> bool:
    # A process's own locks are no obstacle to it.
    if port in _own:
        return False
    try:
        fcntl.lockf(_taken(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _own.add(port)
    return True
