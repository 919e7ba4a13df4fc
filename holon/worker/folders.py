"""The worker SDK: the folders of tasks, and what a worker that was killed has left of its own."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger("holon.worker")

_PREFIX = "holon-task-"
# Its process holds it for as long as the folder is there, and the system lets go of it when that is killed.
_LOCK = "lock"
_swept = threading.Lock()


def make() -> tuple[Path, int]:
    """A new folder where temporary files are, and what holds it, for `remove`. The first has old ones deleted.

    Raises:
        OSError: it cannot be made.
    """
    root = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = _hold(root)
    if held >= 0 and _swept.acquire(blocking=False):
        # It is held for good: once in a process is enough.
        threading.Thread(target=_sweep, args=(root.parent,), name="holon-left-folders", daemon=True).start()
    return root, held


def remove(root: Path, held: int) -> None:
    """Delete a folder, and hold it no more."""
    try:
        shutil.rmtree(root)
    except OSError as error:
        _log.warning("the folder %s of an ended task cannot be deleted: %s", root, error)
    finally:
        if held >= 0:
            os.close(held)


def _hold(root: Path) -> int:
    if sys.platform == "win32":
        # Nothing tells there who lives: whatever is left stays.
        return -1
    # Nobody sees it by its name before it is locked.
    made = root / f"{_LOCK}-"
    held = os.open(made, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    made.rename(root / _LOCK)
    return held


def _sweep(where: Path) -> None:
    """Delete the folders that belong to this user, and that no process holds any more."""
    assert sys.platform != "win32"  # noqa: S101  for the types
    for root in where.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if root.is_symlink() or root.stat().st_uid != os.getuid():
                continue
            held = os.open(root / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # Whoever made it lives.
                os.close(held)
                continue
            _log.info("deleting %s, which a killed worker left behind", root)
            remove(root, held)
