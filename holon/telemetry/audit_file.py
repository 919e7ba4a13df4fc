"""The audit log in a file of its own."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path

import orjson

from holon.errors import ConfigError, Violation
from holon.telemetry.audit import LOGGER
from holon.telemetry.behind import LinesBehind
from holon.telemetry.log import zone_of

log = logging.getLogger(__name__)

# A pipe that nobody reads would keep who opens it waiting for ever.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def audit_to(path: str, zone: str) -> Iterator[None]:
    """While this is entered, the audit log goes to this file, and no longer to the log; an empty path changes nothing.

    A thread of its own writes the lines. The file is made for its owner alone, and made anew when it was moved away.

    Arguments:
        zone: the time zone of its times.
    Raises:
        ConfigError: it cannot be written.
    """
    if not path:
        yield
        return
    try:
        file = _File(path)
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(f"AUDIT_LOG_PATH: {reason}", details=[Violation("AUDIT_LOG_PATH", reason)]) from error
    handler = LinesBehind(file)
    handler.setFormatter(_Lines(zone_of(zone)))
    logger = logging.getLogger(LOGGER)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.propagate, logger.level = before
        logger.removeHandler(handler)
        handler.close()
        file.close()


class _Lines(logging.Formatter):
    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, self._zone).isoformat(timespec="milliseconds")
        # What tells of lines that were lost is no act.
        facts = getattr(record, "audit", {"message": record.getMessage()})
        return orjson.dumps({"time": time, **facts}).decode()


class _File:
    """A file that is appended to, wherever its name leads now. What it does not take goes to the log."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._descriptor = self._open()
        # Whether the file ends within a line, of which the rest was not taken.
        self._torn = False

    def write(self, text: str) -> None:
        lines, done = text.encode(), 0
        try:
            if self._moved():
                opened = self._open()
                self.close()
                self._descriptor, self._torn = opened, False
            if self._torn:
                os.write(self._descriptor, b"\n")
                self._torn = False
            while done < len(lines):
                done += os.write(self._descriptor, lines[done:])
        except OSError as error:
            begun = lines.rfind(b"\n", 0, done) + 1
            self._torn = self._torn or begun < done
            left = lines[begun:].decode()
            log.error("the audit log cannot be written (%s); it lacks: %s", error.strerror, left)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        descriptor = os.open(self._path, _FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return descriptor

    def _moved(self) -> bool:
        try:
            named, opened = self._path.stat(), os.fstat(self._descriptor)
        except FileNotFoundError:
            return True
        return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)
