"""The worker SDK: a handler's `files`: a folder of the task's own, and files that come and go by URLs."""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from urllib.parse import unquote

from holon.domain.file_names import parts_of
from holon.errors import InvalidArgument
from holon.worker import folders
from holon.worker.outcome import INVALID_INPUT_ERROR, TRANSIENT_ERROR, TaskError

if TYPE_CHECKING:
    from holon.worker.transfer import Transfer

T = TypeVar("T")

# So many files of one task are under way at once; more wait.
AT_ONCE = 8
_FILES, _PARTIAL = "files", "partial"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class Sent(TypedDict):
    """What was stored at a URL: its size in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class TaskFolder:
    """The folder of one task, made when it is first asked for, and the transfers that are under way. For any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._transfers: set[Transfer] = set()
        self._stopped = self._closed = False
        self._root: Path | None = None
        self._removal: weakref.finalize[..., TaskFolder] | None = None

    def __repr__(self) -> str:
        return f"TaskFolder({self._root}, transfers={len(self._transfers)})"

    @property
    def made(self) -> bool:
        """Whether there is one, to be removed."""
        return self._root is not None

    def path(self, kind: str = _FILES) -> Path:
        """Where its files are; it is there."""
        with self._changed:
            self._check()
            if self._root is None:
                self._root, held = folders.make()
                # Also when the process ends before the handler does.
                self._removal = weakref.finalize(self, folders.remove, self._root, held)
                for name in (_FILES, _PARTIAL):
                    (self._root / name).mkdir()
            return self._root / kind

    def download(self, transfer: Transfer, name: str | None, size: int | None, sha256: str | None) -> Path:
        """Have a file here, whole, or as it was before. Blocks."""
        parts = _named(name, transfer.name)
        target = self.path().joinpath(*parts)
        if not target.is_relative_to(self.path()):
            # A drive's letter.
            raise TaskError(INVALID_INPUT_ERROR, f"{name!r} is not a name of a file in the task's folder")
        partial = self.path(_PARTIAL) / uuid.uuid4().hex
        with self._counted(transfer):
            try:
                transfer.fetch(partial, size, sha256)
                target.parent.mkdir(parents=True, exist_ok=True)
                transfer.check()
                partial.replace(target)
            except OSError as error:
                raise TaskError(TRANSIENT_ERROR, f"{target} cannot be written: {error.strerror}") from error
            finally:
                partial.unlink(missing_ok=True)
        return target

    def upload(self, transfer: Transfer, path: str | Path) -> Sent:
        """Store a file at a URL. Blocks."""
        given = Path(path)
        with self._counted(transfer):
            size, sha256 = transfer.send(given if given.is_absolute() else self.path() / given)
        return Sent(size=size, sha256=sha256)

    def stop(self) -> None:
        """Stop what is under way, and transfer nothing any more."""
        with self._changed:
            self._stopped = True
            for transfer in self._transfers:
                transfer.stop()

    def close(self) -> None:
        """Stop what is under way; there are no files any more."""
        self._closed = True
        self.stop()

    def remove(self) -> None:
        """Delete the folder, once nothing is under way any more. Blocks."""
        self.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._transfers)
        if self._removal is not None:
            self._removal()

    @contextmanager
    def _counted(self, transfer: Transfer) -> Iterator[None]:
        with self._changed:
            self._check()
            if self._stopped:
                raise TaskError(TRANSIENT_ERROR, "the task was stopped, so it cannot transfer files any more")
            self._transfers.add(transfer)
        try:
            yield
        finally:
            with self._changed:
                self._transfers.discard(transfer)
                self._changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise TaskError(TRANSIENT_ERROR, "the task has ended, and its files were deleted")


class Files:
    """An async handler's `files`.

    Files stream to and from the disk, in threads, whatever their size. A cancel of the handler, or of the call, stops
    the transfer, and of a file that was half there nothing is left.
    """

    def __init__(self, place: TaskFolder, submit: Callable[[Callable[[], object]], None]) -> None:
        self._place = place
        self._submit = submit
        self._room = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return f"Files({self._place!r})"

    @property
    def folder(self) -> Path:
        """The task's own folder, empty at first; it goes with all that is in it once the handler has returned."""
        return self._place.path()

    async def download(
        self, url: str, name: str | None = None, size: int | None = None, sha256: str | None = None
    ) -> Path:
        """Fetch a file; where it is in the folder. It is there whole, or as it was before.

        Arguments:
            url: https or http, such as a blueprint has signed.
            name: what it is called in the folder, such as `pages/1.png`; by default as the URL's path ends.
            size: how many bytes it must have; None: any number.
            sha256: what its SHA-256 must be, in hexadecimal digits; None: anything.
        Raises:
            TaskError: (INVALID_INPUT_ERROR) the URL is none, or is not good any more, or nothing is there, or what is
                said of the file cannot be; (INTEGRITY_MISMATCH_ERROR) it is another file than it should be;
                (TRANSIENT_ERROR) it could not be fetched, though that was tried several times.
        """
        size, sha256 = _expected(size, sha256)
        return await self._in_thread(url, lambda transfer: self._place.download(transfer, name, size, sha256))

    async def upload(self, path: str | Path, url: str) -> Sent:
        """Store a file at a URL, by a PUT; its `size` and `sha256`.

        Arguments:
            path: a file in the folder by its name, or any other by its whole path.
            url: as `download`.
        Raises:
            TaskError: as `download`; (PERMANENT_ERROR) there is no such file here.
        """
        return await self._in_thread(url, lambda transfer: self._place.upload(transfer, path))

    async def _in_thread(self, url: str, call: Callable[[Transfer], T]) -> T:
        transfer = _transfer(url)
        async with self._room:
            future: Future[T] = Future()
            self._submit(lambda: _fill(future, transfer, call))
            try:
                return await asyncio.wrap_future(future)
            finally:
                transfer.stop()


class BlockingFiles:
    """A sync handler's `files`: as `Files`, but its calls block. They end, with an error, once the task is stopped."""

    def __init__(self, place: TaskFolder) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"BlockingFiles({self._place!r})"

    @property
    def folder(self) -> Path:
        """As `Files.folder`."""
        return self._place.path()

    def download(self, url: str, name: str | None = None, size: int | None = None, sha256: str | None = None) -> Path:
        """As `Files.download`. Blocks."""
        size, sha256 = _expected(size, sha256)
        return self._place.download(_transfer(url), name, size, sha256)

    def upload(self, path: str | Path, url: str) -> Sent:
        """As `Files.upload`. Blocks."""
        return self._place.upload(_transfer(url), path)


def _transfer(url: object) -> Transfer:
    # Most workers have no files, and what this takes to import is for those that do.
    from holon.worker.transfer import Transfer

    return Transfer(url)


def _fill(future: Future[T], transfer: Transfer, call: Callable[[Transfer], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call(transfer))
    except BaseException as error:  # noqa: BLE001  it is raised where the call is awaited
        future.set_exception(error)


def _named(name: str | None, by_url: str) -> tuple[str, ...]:
    if name is not None:
        try:
            return parts_of(name)
        except InvalidArgument as error:
            raise TaskError(INVALID_INPUT_ERROR, error.message) from error
    try:
        parts = parts_of(unquote(by_url, errors="strict"))
    except (InvalidArgument, UnicodeDecodeError):
        parts = ()
    return parts if len(parts) == 1 else ("file",)


def _expected(size: Any, sha256: Any) -> tuple[int | None, str | None]:
    if size is not None and (type(size) is not int or size < 0):
        raise TaskError(INVALID_INPUT_ERROR, f"size is {size!r}; give a whole number of bytes, or None")
    if sha256 is None:
        return size, None
    found = _SHA256.fullmatch(sha256.lower()) if isinstance(sha256, str) else None
    if found is None:
        raise TaskError(INVALID_INPUT_ERROR, f"sha256 is {sha256!r}; give 64 hexadecimal digits, or None")
    return size, found[1]
