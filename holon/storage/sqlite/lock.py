"""The SQLite file: one node at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from holon.errors import ConfigError


class FileLock:
    """An exclusive lock on a side file, held as long as this process lives or until `release`.

    It is no lock on the database itself, since SQLite's own locks of a process are dropped when any of its descriptors
    of that file closes.

    Arguments:
        database: the file whose only node this is to be; the lock is on the same name with `.lock` behind it, of the
            file itself where this is a link to it.
    Raises:
        ConfigError: another node has it; the message names its process.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()
        path = file.with_name(f"{file.name}.lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            first = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise ConfigError(
                f"{database} belongs to the node that runs as process {first or '(unknown)'}: "
                "stop that one first, or name another file in STORAGE_URI"
            ) from error
        except BaseException:
            os.close(self._descriptor)
            raise
        owner = f"{os.getpid()}\n"
        os.pwrite(self._descriptor, owner.encode(), 0)
        os.ftruncate(self._descriptor, len(owner))

    def release(self) -> None:
        """Let the next node have the file."""
        os.close(self._descriptor)
