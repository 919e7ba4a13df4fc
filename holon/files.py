"""Files and folders that are trusted: taken only where no other user had a hand in them, made for this user alone.

And how many may be open.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

MAX_BYTES = 1024 * 1024
# The most that a unix socket's whole path may have, wherever it is: on macOS it and its end are 104.
SOCKET_PATH_BYTES = 100
Facts: TypeAlias = tuple[int, ...] | None
# Workers run on Windows too, which has none of these, and says in another way who may open a file.
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
_AS_IT_IS: int = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A pipe in the file's place would keep who opens it waiting for ever.
_AT_ONCE: int = getattr(os, "O_NONBLOCK", 0)
_HAS_MODES = hasattr(os, "geteuid")
# As many links as Linux follows in one path.
_MOST_LINKS = 40
# What `O_NOFOLLOW` says of a link: BSD says it otherwise.
_IS_LINK = (errno.ELOOP, errno.EMLINK)


def share_of_files(parts: int, most: int) -> int:
    """How many files are one of so many equal parts of those that this process may open: at most so many."""
    # Not on Windows, where workers run, and no node.
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if limit == resource.RLIM_INFINITY else min(most, limit // parts)


def trust_problem(path: str, *, mounted: bool = False, beside: bool = False) -> str | None:
    """Say how another user of this machine could have put something at a path, or could change what is there.

    Each folder and link on the way is looked at, and so are those that links lead to. Each belongs to this user or to
    the system, and no folder can be written by every user. A sticky folder, as /tmp is, may be on the way: what is in
    it, only its owner can replace. A group that may write is trusted. What is not there yet is no problem.

    Blocks for the looks.

    Arguments:
        mounted: who may write a folder is not looked at, as where Kubernetes mounts it.
        beside: it is a file with others beside it, so that no sticky folder may hold it.
    Returns:
        the problem, with the path and what to do; None: there is none.
    """
    if not _HAS_MODES:
        return None
    owners = {0, os.geteuid(), os.lstat("/").st_uid}
    parts = _parts(os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118  as it is: `..` is after its link
    here, links = "/", 0
    while parts:
        part = parts.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120  here has no link
            continue
        folder = os.lstat(here)
        if not mounted and _is_open(folder, sticky=bool(parts) or not beside):
            return _open_to_all(path, here, folder)
        one = os.path.join(here, part)  # noqa: PTH118
        try:
            facts = os.lstat(one)
            if facts.st_uid not in owners:
                return _foreign(path, one, facts)
            if stat.S_ISLNK(facts.st_mode):
                links += 1
                target = os.readlink(one)  # noqa: PTH115
                here = "/" if target.startswith("/") else here
                parts += _parts(target)
                if links > _MOST_LINKS:
                    return None
                continue
        except (OSError, ValueError):
            # It is not there, or cannot be looked at, which whoever uses it says.
            return None
        here = one
    facts = os.lstat(here)
    if stat.S_ISDIR(facts.st_mode) and mounted:
        return None
    return _open_to_all(path, here, facts) if _is_open(facts, sticky=False) else None


def make_folder(path: Path) -> None:
    """Make a folder, and those that lead to it, for this user alone; those that are there stay as they are.

    Blocks for the writes.

    Raises:
        OSError: one cannot be made, or another user has made it at this moment.
    """
    missing = []
    while not path.exists() and path != path.parent:
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        try:
            one.mkdir(0o700)
        except FileExistsError:
            if not one.is_dir():
                raise
            if problem := trust_problem(str(one)):
                raise PermissionError(errno.EACCES, problem, str(one)) from None


def read_private(path: str, *, mounted: bool = False) -> bytes:
    """Read a file that holds a secret, after a look at the very file that was opened.

    Blocks for the read.

    Arguments:
        mounted: it may be a link, and its group may read it, as where Kubernetes mounts secrets.
    Raises:
        ValueError: it cannot be read, is empty, no regular file or over 1 MiB, or others can read it or could have
            written it; the message says what to do.
    """
    allowed = 0o740 if mounted else 0o700

    def check(facts: os.stat_result) -> None:
        if not _HAS_MODES:
            return
        if facts.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"{path} belongs to another user of this machine (uid {facts.st_uid}); chown it")
        if stat.S_IMODE(facts.st_mode) & ~allowed:
            mode = "640" if mounted else "600"
            raise ValueError(f"{path} is open to other users of this machine; chmod {mode} {path}")

    return _read(path, 0 if mounted else _NO_LINK, check)


def read_public(path: str, most: int = MAX_BYTES) -> bytes:
    """Read a file that holds no secret but says whom to trust. Blocks for the read.

    Arguments:
        most: how many bytes it may have.
    Raises:
        ValueError: it cannot be read, is empty, no regular file or too large, or every user can change it; the message
            says what to do.
    """

    def check(facts: os.stat_result) -> None:
        if facts.st_mode & stat.S_IWOTH:
            raise ValueError(f"every user of this machine can change {path}; chmod 644 {path}")

    return _read(path, 0, check, most)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by a file of `data` with exactly `mode`; a reader, or a crash, sees the old file or the new one.

    Blocks for the write and its fsync.

    Raises:
        OSError: it cannot be written; the old file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Made private and only then widened, so that the umask cannot narrow it and no other user can open it meanwhile.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def facts_of(path: str) -> Facts:
    """What tells that a file was written or replaced, also by a link that leads elsewhere now; None: there is none."""
    try:
        facts = os.stat(path)  # noqa: PTH116  every second: no object is made for it
    except (OSError, ValueError):
        return None
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _read(path: str, flags: int, check: Callable[[os.stat_result], None], most: int = MAX_BYTES) -> bytes:
    if "\0" in path:
        raise ValueError(f"{path!r} is not a path")
    try:
        descriptor = os.open(path, os.O_RDONLY | _AS_IT_IS | _AT_ONCE | flags)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode):
                check(facts)
            elif not stat.S_ISDIR(facts.st_mode):
                raise ValueError(f"{path} is not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(most + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _IS_LINK and flags & _NO_LINK:
            raise ValueError(
                f"{path} is a link; use the path of the file itself, or if secrets are mounted, set "
                "SECRETS_MOUNTED=true"
            ) from error
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise ValueError(f"{path} is empty")
    if len(content) > most:
        raise ValueError(f"{path} has over {most} bytes; check that it is the right file")
    return content


def _parts(path: str) -> list[str]:
    """The parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _is_open(facts: os.stat_result, *, sticky: bool) -> bool:
    """Whether every user can write; with `sticky`, a sticky folder is not open."""
    return bool(facts.st_mode & stat.S_IWOTH) and not (sticky and facts.st_mode & stat.S_ISVTX)


def _open_to_all(path: str, one: str, facts: os.stat_result) -> str:
    if facts.st_mode & stat.S_ISVTX:
        return f"{path}: every user of this machine can create files in {one}; use a folder of your own"
    where = "" if path == one else f"{path}: "
    what = f"{where}every user of this machine can change {one}; chmod o-w {one}"
    is_folder = stat.S_ISDIR(facts.st_mode)
    return f"{what}, or if it is mounted into a container, set SECRETS_MOUNTED=true" if is_folder else what


def _foreign(path: str, one: str, facts: os.stat_result) -> str:
    where = "" if path == one else f"{path}: "
    what = "is a link of" if stat.S_ISLNK(facts.st_mode) else "belongs to"
    return (
        f"{where}{one} {what} another user of this machine (uid {facts.st_uid}), who can change what is there; "
        "remove it, chown it, or use another place"
    )
