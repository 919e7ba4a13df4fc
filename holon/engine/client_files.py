"""The application service of files: what clients may do with those of their jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from holon.domain.client import Client
from holon.domain.file_names import Parts, no_name, parts_of
from holon.engine.job_files import JobFiles
from holon.engine.jobs import Jobs
from holon.engine.page_tokens import PageTokens
from holon.engine.paging import size_of_page
from holon.errors import FailedPrecondition, PermissionDenied, ResourceExhausted, Unavailable
from holon.ports import Blob
from holon.task_files import MAX_EXPIRES_S as MAX_EXPIRES_S
from holon.task_files import key_of, prefix_of

# How long the URL lasts that a download leads to: it is followed at once.
DOWNLOAD_S = 60
# What S3 takes in one piece, as by a URL that is signed for an upload; by the node no client stores more either.
MAX_FILE_BYTES = 5 * 2**30
RETRY_S = 5.0


class ClientFiles:
    """The files of jobs, each for those who may see the job (`Client.sees`).

    Every method raises:
        NotFound: (JOB_NOT_FOUND) there is no such job, or it is another client's.
        FailedPrecondition: (FILES_GONE) the job is over, and its files were deleted.
        InvalidArgument: (FILE_NAME_INVALID) a name is none, or would lead out of the job.
        Unavailable: (FILES_UNAVAILABLE) S3 cannot be used just now; also where that is for the operator to mend.
    """

    def __init__(self, jobs: Jobs, files: JobFiles, pages: PageTokens) -> None:
        self._jobs = jobs
        self._pages = pages
        self._files = files
        # How many are under way, by client.
        self._storing: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"ClientFiles({self._files!r})"

    async def upload_url(self, client: Client, job_id: str, name: str, seconds: int) -> str:
        """A URL by which whoever has it may store this one file, for so many seconds. It is a secret."""
        _file(name)
        await self._check(client, job_id)
        with _by_client():
            return await self._files.of(job_id).generate_presigned_url(name, "PUT", seconds)

    async def store(self, client: Client, job_id: str, name: str, chunks: AsyncIterator[bytes]) -> str:
        """Store a file as it comes, in the place of an older one; its URI. Where `chunks` raises nothing is stored.

        Raises:
            ResourceExhausted: (UPLOADS_FULL) too many are stored by this node just now, or too many of this client's.
        """
        _file(name)
        await self._check(client, job_id)
        with self._place(client.name), _by_client():
            uri = await self._files.of(job_id).upload_stream(name, chunks)
            if await self._files.gone(job_id):
                # What it had was perhaps deleted before this came.
                await self._files.clear(job_id)
                raise _gone(job_id)
        return uri

    async def download_url(self, client: Client, job_id: str, name: str) -> str:
        """A URL by which whoever has it may fetch a file, for a minute. It is a secret.

        Raises:
            NotFound: (FILE_NOT_FOUND) the job has no such file.
        """
        parts = _file(name)
        await self._check(client, job_id)
        with _by_client():
            files = self._files.of(job_id)
            await self._files.blobs.head(key_of(prefix_of(job_id), parts))
            return await files.generate_presigned_url(name, "GET", DOWNLOAD_S)

    async def list(self, client: Client, job_id: str, page_size: int, page_token: str) -> tuple[list[Blob], str]:
        """A page of a job's files, by their names, and the token of the next (empty: that was all).

        Their keys are their names.

        Raises:
            InvalidArgument: the size or the token is none.
        """
        size, tokens = size_of_page(page_size), self._pages.of("files", job_id)
        after = tokens.place(page_token)
        await self._check(client, job_id)
        prefix = prefix_of(job_id)
        found: list[Blob] = []
        with _by_client():
            async for page in self._files.blobs.list(prefix, prefix + after if after else ""):
                found += page
                if len(found) > size:
                    break
        named = [Blob(one.key.removeprefix(prefix), one.size, one.tag, one.changed_at) for one in found[:size]]
        return named, tokens.token(named[-1].key) if len(found) > size else ""

    @contextmanager
    def _place(self, name: str) -> Iterator[None]:
        """A place among the uploads that may be under way. One client may have as many as are left to all others."""
        if self._storing[name] >= self._files.uploads - self._storing.total():
            raise ResourceExhausted(
                f"clients have {self._storing.total()} uploads in progress on this node, {self._storing[name]} of "
                "them this client, which is the limit; retry later, or upload to a URL of files/upload",
                code="UPLOADS_FULL",
                retry_after=RETRY_S,
            )
        self._storing[name] += 1
        try:
            yield
        finally:
            self._storing[name] -= 1
            if not self._storing[name]:
                del self._storing[name]

    async def _check(self, client: Client, job_id: str) -> None:
        record = await self._jobs.get(client, job_id)
        if record.job.status.terminal and await self._files.gone(job_id):
            raise _gone(job_id)


def _file(name: str) -> Parts:
    """The name of a file; that of a folder, or a URI, is none here."""
    if name.endswith("/"):
        raise no_name(name, "it is the name of a folder")
    return parts_of(name)


def _gone(job_id: str) -> FailedPrecondition:
    return FailedPrecondition(f"job {job_id!r} has ended, and its files were deleted", code="FILES_GONE")


@contextmanager
def _by_client() -> Iterator[None]:
    """What no client can mend is the node's trouble, and may be over when it asks again."""
    try:
        yield
    except PermissionDenied as error:
        raise Unavailable(error.message, code="FILES_UNAVAILABLE") from error
    except FailedPrecondition as error:
        if error.code != "FILES_NO_BUCKET":
            raise
        raise Unavailable(error.message, code="FILES_UNAVAILABLE") from error
