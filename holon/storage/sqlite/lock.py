"""The SQLite file: one node at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

from holon.errors import ConfigError

# Far behind what SQLite locks: a byte that no file has.
_FAR = 2**62


class FileLock:
    """An exclusive lock on a side file, held as long as this process lives or until `release`.

    One on the file itself is beside it, on Linux: who has the file by another name, as by a hard link or mounted alone
    into a container, has another side file, and another log too. It is released once SQLite has closed the file, since
    SQLite's own locks of a process are dropped when any of its descriptors of that file closes.

    Arguments:
        database: the file whose only node this is to be; the side file has the same name with `.lock` behind it, of the
            file itself where this is a link to it.
    Raises:
        ConfigError: another node has it; the message names its process, where the names are the same.
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
        self._of_file: int | None = None
        try:
            self._of_file = _locked(file)
            owner = f"{os.getpid()}\n"
            os.pwrite(self._descriptor, owner.encode(), 0)
            os.ftruncate(self._descriptor, len(owner))
        except BlockingIOError as error:
            self.release()
            raise ConfigError(
                f"{database} belongs to another node, which has that file by another name, as by a hard link or a "
                "mount: stop that one first, or name another file in STORAGE_URI"
            ) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the next node have the file; after SQLite has closed it."""
        # Who gets the side file is not to find the other lock held still.
        if self._of_file is not None:
            os.close(self._of_file)
        os.close(self._descriptor)


def _locked(file: Path) -> int | None:
    """A descriptor that holds the lock on the file itself; None where there is no such lock.

    Raises:
        BlockingIOError: somebody holds it.
        OSError: the file cannot be opened.
    """
    if sys.platform != "linux":
        return None
    # It is not there where it was named by a link to nothing.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # It belongs to this descriptor, and not to the process, as SQLite's do.
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _FAR, 1, 0))
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(error.errno, error.strerror) from error
        # Some file systems have none.
        return None
    return descriptor
