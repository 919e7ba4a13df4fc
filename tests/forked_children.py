"""Has tests of the bench and of chaos start their processes by a fork: what they test is not how Python starts."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.bench import process
from tests.forks import ROOT, Program, forks


class ForkedChild:
    """A program with a stream to it and one from it, as `asyncio.subprocess` has others."""

    def __init__(
        self, program: Program, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader, line: asyncio.StreamWriter
    ) -> None:
        self.pid = program.pid
        self.stdin = stdin
        self.stdout = stdout
        self._program = program
        self._line = line

    def kill(self) -> None:
        self._program.kill()

    async def wait(self) -> int:
        code = await self._program.wait()
        self.stdin.close()
        self._line.close()
        return code


async def spawn(
    arguments: tuple[str, ...], environment: dict[str, str], log: Path, pipes: tuple[int, ...]
) -> ForkedChild:
    """As `tests.bench.process.spawn`, by a fork."""
    told, its_stdin = socket.socketpair()
    said, its_stdout = socket.socketpair()
    with its_stdin, its_stdout, log.open("wb") as errors:
        _, stdin = await asyncio.open_unix_connection(sock=told)
        stdout, line = await asyncio.open_unix_connection(sock=said)
        # At once: a cancel must not leave a process that nobody knows.
        streams = its_stdin.fileno(), its_stdout.fileno(), errors.fileno()
        program = forks().start(arguments, environment, ROOT, streams, pipes)
    return ForkedChild(program, stdin, stdout, line)


@pytest.fixture
def forked_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test starts of the bench's kind is forked."""
    monkeypatch.setattr(process, "spawn", spawn)
