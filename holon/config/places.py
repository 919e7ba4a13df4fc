"""Files that a node writes, and the folder that it reads: what is seen to be in the way. None: nothing is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


def file_problem(path: str) -> str | None:
    """What keeps a file from being made in a folder that is there, or from being appended to; it may be no link."""
    return _problem(path, _file)


def database_problem(path: Path) -> str | None:
    """What keeps a database from being made, with the folders that lead to it, or from being written to."""
    return _problem(str(path), _database)


def socket_problem(path: str) -> str | None:
    """What keeps a unix socket from being made in a folder that is there, or in the place of an earlier one."""
    return _problem(path, _socket)


def folder_problem(path: str) -> str | None:
    """What keeps a path from being a folder."""
    return _problem(
        path, lambda whole: None if whole.is_dir() else (f"{path} is not a folder; create it, or use another")
    )


def made_problem(path: str) -> str | None:
    """What keeps a folder from being made, with those that lead to it, or from being written to."""
    return _problem(path, _made)


def _problem(path: str, look: Callable[[Path], str | None]) -> str | None:
    # Outside, for this fails where the folder that the process runs in is gone, which is another matter.
    whole = Path(path).absolute()
    try:
        return look(whole)
    except OSError as error:
        return f"{path} cannot be accessed: {error.strerror}"
    except ValueError:
        return f"{path!r} is not a path"


def _file(path: Path) -> str | None:
    mode = _mode(path, follow=False)
    if mode is None:
        return _folder_problem(path.parent)
    return _file_problem(path, mode)


def _database(path: Path) -> str | None:
    mode = _mode(path)
    if mode is not None and (problem := _file_problem(path, mode)):
        return problem
    # There will be more files beside it.
    return _folder_problem(next(folder for folder in path.parents if folder.exists()))


def _made(path: Path) -> str | None:
    return _folder_problem(next(folder for folder in (path, *path.parents) if folder.exists()))


def _socket(path: Path) -> str | None:
    mode = _mode(path, follow=False)
    if mode is not None and not stat.S_ISSOCK(mode):
        return f"{path} exists, and is not a socket; use another path"
    return _folder_problem(path.parent)


def _mode(path: Path, *, follow: bool = True) -> int | None:
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _file_problem(path: Path, mode: int) -> str | None:
    if not stat.S_ISREG(mode):
        return f"{path} exists, and is not a regular file; use another path"
    return (
        None if _may(path, os.W_OK) else (f"this user cannot write {path}; change its permissions, or use another path")
    )


def _folder_problem(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"{folder} is not a folder; create it"
    return (
        None
        if _may(folder, os.W_OK | os.X_OK)
        else (f"this user cannot create a file in {folder}; change its permissions, or use another folder")
    )


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)
