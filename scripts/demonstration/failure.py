"""The demo: how it ends when something is wrong, or somebody asks it to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """The demo cannot go on.

    Arguments:
        message: what happened and what to do.
        log: the file that says more, if one does.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class Interrupted(BaseException):
    """Somebody asked it to stop; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruptions:
    """Raises Interrupted once for the signals that ask a program to stop, but not while they are held back.

    Those that follow change nothing: it is stopping already, and that takes a few seconds at most.
    """

    def __init__(self) -> None:
        self._held = 0
        self._pending = 0
        self._raised = False

    def listen(self) -> None:
        """Take over these signals; main thread only."""
        for number in _STOPPING:
            signal.signal(number, self._on_signal)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Let what is inside come to its end first."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._raise_pending()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the shape of a handler
        self._pending = number
        self._raise_pending()

    def _raise_pending(self) -> None:
        if self._pending and not self._held and not self._raised:
            self._raised = True
            raise Interrupted(self._pending)
