"""The folder of a job's local files: whatever is in it, nothing outside of it is read or written. All of it blocks."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from holon.domain.file_names import Parts
from holon.errors import HolonError, InvalidArgument, NotFound, TooLarge
from holon.files import make_folder
from holon.randomness import random_id
from holon.task_files.names import parts_of

MAX_FILES = 10_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What is half written is beside the files, so that nobody takes it for one.
_FILES, _PARTIAL = "files", "partial"


class Folder:
    """A folder of one job, made when something is first put into it.

    Links are not followed, wherever they lead: what runs for a job, and unpacks what strangers sent, may have made
    them. Each part of a path is opened from the one above it, so that none can be put in its place meanwhile.

    Arguments:
        place: its path; all that leads there is the node's own.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.root = place / _FILES

    def __repr__(self) -> str:
        return f"Folder({self._place})"

    def path(self, parts: Parts) -> Path:
        """Where a file is, or is to be; the folder that it is in is made.

        Raises:
            InvalidArgument: (FILE_NAME_INVALID) what leads there, or stands there, is a link.
        """
        with self._open(_FILES, parts[:-1], make=True) as folder:
            if parts and _mode(parts[-1], folder) is not None:
                _refuse_link(parts, folder)
        return self.root.joinpath(*parts)

    def parts_below(self, local: object) -> Parts:
        """A local path as its parts: that of `path`, or one that is relative to the job's folder.

        Raises:
            InvalidArgument: (FILE_NAME_INVALID) it leads elsewhere.
        """
        if isinstance(local, Path | str) and os.path.isabs(local):  # noqa: PTH117  it may be text
            text = str(local)
            if Path(text) == self.root:
                return ()
            below = text.removeprefix(f"{self.root}/")
            if below == text:
                raise InvalidArgument(
                    f"{text!r} is not in the folder of this job; use paths from task_files.path()",
                    code="FILE_NAME_INVALID",
                )
            return parts_of(below)
        return parts_of(local)

    def is_folder(self, parts: Parts) -> bool:
        """Whether a path is a folder.

        Raises:
            NotFound: (FILE_NOT_FOUND) there is nothing.
            InvalidArgument: (FILE_NAME_INVALID) it is neither folder nor file.
        """
        with self._open(_FILES, parts[:-1], make=False) as folder:
            mode = _mode(parts[-1], folder) if parts else stat.S_IFDIR
            if mode is None:
                raise _none(parts)
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise _odd(parts)
            return stat.S_ISDIR(mode)

    def files(self, parts: Parts) -> list[Parts]:
        """All files below a folder, in order.

        Raises:
            InvalidArgument: (FILE_NAME_INVALID) there is a link, or what is no file.
            TooLarge: (LIMIT_EXCEEDED) they are too many.
        """
        found: list[Parts] = []
        with self._open(_FILES, parts, make=False) as folder:
            for where, folders, names, inner in os.fwalk(".", dir_fd=folder):
                folders.sort()
                within = parts + tuple(part for part in Path(where).parts if part != ".")
                for name in (*folders, *names):
                    mode = _mode(name, inner)
                    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                        raise _odd((*within, name))
                found += [parts_of("/".join((*within, name))) for name in sorted(names)]
                if len(found) > MAX_FILES:
                    raise TooLarge(
                        f"{'/'.join(parts) or 'the folder'!r} has over {MAX_FILES} files; pack them into one file",
                        code="LIMIT_EXCEEDED",
                    )
        return found

    def open(self, parts: Parts) -> tuple[BinaryIO, int]:
        """A file to read, and its size.

        Raises:
            NotFound: (FILE_NOT_FOUND) there is none.
            InvalidArgument: (FILE_NAME_INVALID) it is no file.
        """
        with self._open(_FILES, parts[:-1], make=False) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            _refuse_link(parts, folder)
            file = os.fdopen(os.open(parts[-1], flags, dir_fd=folder), "rb")
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                file.close()
                raise _odd(parts)
            return file, facts.st_size

    def begin(self) -> tuple[BinaryIO, str]:
        """A new file to write, and its name among those that are half written."""
        name = random_id()
        with self._open(_PARTIAL, (), make=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb"), name

    def finish(self, name: str, parts: Parts) -> Path:
        """What was half written is the file now, in the place of an older one."""
        with self._open(_PARTIAL, (), make=True) as partial, self._open(_FILES, parts[:-1], make=True) as folder:
            os.replace(name, parts[-1], src_dir_fd=partial, dst_dir_fd=folder)
        return self.root.joinpath(*parts)

    def drop(self, name: str) -> None:
        """What was half written is not wanted."""
        with self._open(_PARTIAL, (), make=True) as partial:
            os.unlink(name, dir_fd=partial)

    def write(self, parts: Parts, data: bytes) -> Path:
        """Write a file whole, or leave it as it was."""
        file, name = self.begin()
        try:
            with file:
                file.write(data)
            return self.finish(name, parts)
        except BaseException:
            self.drop(name)
            raise

    def remove(self) -> None:
        """Delete all of it; links go, and not what they lead to."""
        with local_errors():
            try:
                shutil.rmtree(self._place)
            except FileNotFoundError:
                pass

    @contextmanager
    def _open(self, kind: str, parts: Parts, *, make: bool) -> Iterator[int]:
        """The descriptor of a folder, for as long as this is entered."""
        with local_errors():
            if make:
                make_folder(self._place)
            try:
                opened = os.open(self._place, _FOLDER)
            except FileNotFoundError:
                raise _none(parts) from None
            try:
                for part in (kind, *parts):
                    if make:
                        try:
                            os.mkdir(part, 0o700, dir_fd=opened)
                        except FileExistsError:
                            pass
                    below = self._below(opened, part, parts)
                    os.close(opened)
                    opened = below
                yield opened
            finally:
                os.close(opened)

    @staticmethod
    def _below(folder: int, part: str, parts: Parts) -> int:
        try:
            return os.open(part, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            raise _none(parts) from None
        except OSError as error:
            mode = _mode(part, folder)
            if mode is not None and not stat.S_ISDIR(mode):
                raise _odd(parts) from error
            raise


@contextmanager
def local_errors() -> Iterator[None]:
    """What the system says of local files, as an error of ours."""
    try:
        yield
    except OSError as error:
        message = f"a local file of this job cannot be used: {error.strerror}; check TASK_FILES_DIR"
        raise HolonError(message, code="FILES_LOCAL") from error


def _mode(name: str, folder: int) -> int | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _refuse_link(parts: Parts, folder: int) -> None:
    mode = _mode(parts[-1], folder)
    if mode is None:
        raise _none(parts)
    if stat.S_ISLNK(mode):
        raise _odd(parts)


def _none(parts: Parts) -> NotFound:
    return NotFound(f"this job has no local file {'/'.join(parts)!r}", code="FILE_NOT_FOUND")


def _odd(parts: Parts) -> InvalidArgument:
    message = f"{'/'.join(parts)!r} of this job leads to a link, or to something other than a file or folder"
    return InvalidArgument(message, code="FILE_NAME_INVALID")
