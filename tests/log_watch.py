"""Waiting for a line of a log."""

from __future__ import annotations

import asyncio
import logging
from typing import Self


class LogWatch(logging.Handler):
    """Sets `seen` once a line with this text is logged.

    Arguments:
        text: of the line.
        logger: by whom, or by one below it.
    """

    def __init__(self, text: str, logger: str = "holon.worker") -> None:
        super().__init__()
        self.seen = asyncio.Event()
        self._text = text
        self._logger = logging.getLogger(logger)
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._loop.call_soon_threadsafe(self.seen.set)

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
