"""Files of jobs: handed to their handlers, and cleared away when the jobs are over.

What is in the bucket is found again by a *mark*: an empty object of this holon, which is stored before a job's first
file, and deleted after its last. So a node that dies forgets nothing that is to be deleted, and nothing is deleted that
another holon, or another program, keeps in the same bucket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from math import inf
from pathlib import Path

from holon.domain.job import Job
from holon.domain.value import Value
from holon.engine.blueprints import Blueprints
from holon.errors import HolonError
from holon.ports import BlobStore, Storage
from holon.task_files import Folder, TaskFiles, prefix_of
from holon.task_files.copies import forget
from holon.task_files.together import together
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# How often what is left over is looked for; what ended is cleared away at once.
EVERY_S = 900.0
# So many ended jobs wait at most; what does not fit in is found later.
WAITING = 10_000
TOGETHER = 32
# A first handler may have files before its job is stored: what is found here and was changed since is left for later.
YOUNG_S = 60.0
_JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Cleaner:
    """Clears away what jobs that are over have left in one place: of those it is told of, and of those it finds.

    Arguments:
        over: whether a job is over, and its files not wanted any more.
        found: jobs that have something there.
        remove: deletes what one has there.
    """

    def __init__(
        self,
        over: Callable[[str], Awaitable[bool]],
        found: Callable[[], AsyncIterator[str]],
        remove: Callable[[str], Awaitable[None]],
    ) -> None:
        self._over = over
        self._found = found
        self._remove = remove
        self._waiting: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._failed = Seldom(log)

    def __repr__(self) -> str:
        return f"Cleaner(waiting={self._waiting.qsize()})"

    def tell(self, job_id: str) -> None:
        """A job may be over. Never waits."""
        if not self._waiting.full():
            self._waiting.put_nowait(job_id)

    async def run(self) -> None:
        """Clear away, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._look()
            again = loop.time() + EVERY_S
            while (left := again - loop.time()) > 0:
                try:
                    async with asyncio.timeout(left):
                        some = [await self._waiting.get()]
                except TimeoutError:
                    break
                while len(some) < TOGETHER and not self._waiting.empty():
                    some.append(self._waiting.get_nowait())
                await together(some, self._clean, len(some))

    async def _look(self) -> None:
        some: list[str] = []
        try:
            async for job_id in self._found():
                some.append(job_id)
                if len(some) == TOGETHER:
                    await together(some, self._clean, len(some))
                    some = []
            await together(some, self._clean, len(some))
        except HolonError as error:
            self._failed.warn("files of ended jobs cannot be looked up", why=error.message)

    async def _clean(self, job_id: str) -> None:
        try:
            if await self._over(job_id):
                await self._remove(job_id)
        except HolonError as error:
            # It is found again later.
            self._failed.warn("the files of an ended job were not deleted", why=error.message, job_id=job_id)


class FilesPlace(Value, gc=True):
    """Where the files of a holon's jobs are, and when they go.

    Attributes:
        blobs: the bucket.
        folder: that of the local files; it is there, and the holon's own.
        holon_id: whose marks are its own.
        at_once: whether files in the bucket go when their job is over; else when the job is deleted too.
        uploads: how many files clients may store at once by this node: others need the bucket as well.
    """

    blobs: BlobStore
    folder: Path
    holon_id: str
    at_once: bool = True
    uploads: int = 50


class JobFiles:
    """The files of all jobs of a node.

    Arguments:
        store: where it is looked up whether a job is over.
        blueprints: those of which some have files.
        keep_ms: how long a job is kept after its end.

    Attributes:
        blobs, uploads: as `FilesPlace` has them.
    """

    def __init__(self, place: FilesPlace, store: Storage, blueprints: Blueprints, keep_ms: int) -> None:
        self.blobs = place.blobs
        self._folder = place.folder
        self._marks = f".holon/jobs/{place.holon_id}/"
        self._store = store
        self._blueprints = blueprints
        self._at_once = place.at_once
        self.uploads = place.uploads
        # What is younger is told of, or cannot be over for long enough: a job is not deleted before.
        self._young_ms = round(EVERY_S * 1000) if place.at_once else keep_ms
        self._here = Cleaner(partial(self._over, ended=True), self._local, self._remove_local)
        self._there = Cleaner(partial(self._over, ended=place.at_once), self._marked, self._remove)

    def __repr__(self) -> str:
        return f"JobFiles({self.blobs!r}, {self._folder})"

    def of(self, job_id: str) -> TaskFiles:
        """Those of one job, for one run of a handler."""
        return TaskFiles(job_id, self.blobs, Folder(self._folder / job_id), self._mark)

    async def gone(self, job_id: str) -> bool:
        """Whether a job is over, or not known any more, and its files were deleted, or are about to be."""
        return await self._over(job_id, ended=self._at_once)

    async def clear(self, job_id: str) -> None:
        """Have what a job has in the bucket cleared away, also where that was done before."""
        await self._mark(job_id)
        self._there.tell(job_id)

    def ended(self, job: Job) -> None:
        """A job is over, or its run was void. Never waits."""
        blueprint = self._blueprints.get(job.blueprint)
        if blueprint is None or blueprint.has_files:
            self._here.tell(job.id)
            if self._at_once:
                self._there.tell(job.id)

    async def run(self) -> None:
        """Clear away what jobs that are over have left, for ever."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._here.run(), name="local-files")
            loops.create_task(self._there.run(), name="stored-files")

    async def _mark(self, job_id: str) -> None:
        await self.blobs.put(self._marks + job_id, b"")

    async def _over(self, job_id: str, *, ended: bool) -> bool:
        record = await self._store.job(job_id)
        return record is None or (ended and record.job.status.terminal)

    async def _local(self) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(_names, self._folder):
            if _JOB_ID.fullmatch(name):
                yield name

    async def _remove_local(self, job_id: str) -> None:
        await asyncio.to_thread(Folder(self._folder / job_id).remove)

    async def _marked(self) -> AsyncIterator[str]:
        async for page in self.blobs.list(self._marks):
            for blob in page:
                job_id = blob.key.removeprefix(self._marks)
                if blob.changed_at < self._store.now() - self._young_ms and _JOB_ID.fullmatch(job_id):
                    yield job_id

    async def _remove(self, job_id: str) -> None:
        await forget(self.blobs, prefix_of(job_id))
        await self.blobs.delete([self._marks + job_id])


def _names(folder: Path) -> list[str]:
    """The folders of jobs, but for those that are young."""
    latest = time.time() - YOUNG_S
    try:
        with os.scandir(folder) as found:
            return [one.name for one in found if _changed_at(one) < latest]
    except OSError as error:
        message = f"the folder {folder} cannot be read: {error.strerror}; check TASK_FILES_DIR"
        raise HolonError(message, code="FILES_LOCAL") from error


def _changed_at(found: os.DirEntry[str]) -> float:
    try:
        return found.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        # It has gone meanwhile.
        return inf
