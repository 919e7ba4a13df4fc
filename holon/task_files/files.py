"""`TaskFiles`: what a handler does with the files of its job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from holon.domain.file_names import Parts
from holon.domain.plain import obstacle
from holon.errors import InvalidArgument, NotFound, TooLarge
from holon.json_in import parse
from holon.ports import MAX_PARTS, PART_BYTES, Blob, BlobStore
from holon.task_files.checking import Expected
from holon.task_files.copies import Copies, bounded, forget
from holon.task_files.folder import MAX_FILES, Folder
from holon.task_files.names import is_folder, key_of, named, parts_of, prefix_of
from holon.task_files.together import together

MAX_EXPIRES_S = 7 * 86_400
METHODS = ("GET", "PUT")
# Of so many calls of one run of a handler the job's history tells.
MAX_TOLD = 100


class TaskFiles:
    """The files of one job: in the bucket, below `jobs/<job_id>/`, and local copies of them.

    Names are paths, such as `pages/1.png`; they, and the URIs that are given back, never lead out of the job. Files are
    sent and fetched as they stream, whatever their size. A folder is named with a `/` at its end.

    Every method that needs the bucket raises:
        Unavailable: (FILES_UNAVAILABLE) S3 cannot be reached, or not just now.
        PermissionDenied: (FILES_DENIED) S3 refuses; (FILE_FOREIGN) the URI is of another bucket or job.
        FailedPrecondition: (FILES_NO_BUCKET) there is no bucket.
        InvalidArgument: (FILE_NAME_INVALID) a name or path is none, or would lead elsewhere.

    Arguments:
        mark: called once before the first file is stored, so that all of them are found again.

    Attributes:
        told: what was done, for the job's history.
    """

    def __init__(self, job_id: str, blobs: BlobStore, folder: Folder, mark: Callable[[str], Awaitable[None]]) -> None:
        self._job_id = job_id
        self._blobs = blobs
        self._folder = folder
        self._mark = mark
        self._marked = False
        self._copies = Copies(blobs, folder)
        self._prefix = prefix_of(job_id)
        self.told: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"TaskFiles({self._uri()})"

    def path(self, name: str) -> Path:
        """Where a local file is, or is to be; the folder that it is in is made. What is put there is not sent yet.

        Another step of the job may run on another node, which does not have it.
        """
        return self._folder.path(parts_of(name))

    async def download(
        self, name_or_uri: str, local_name: str | None = None, verify_meta: Mapping[str, Any] | None = None
    ) -> Path:
        """Fetch a file, or all files of a folder; the local path. A file is there whole, or as it was before.

        Arguments:
            local_name: what it is called here; by default as in the bucket.
            verify_meta: of a file, what it must be: `size` in bytes, and `hash`, its SHA-256 or ETag.
        Raises:
            NotFound: (FILE_NOT_FOUND) there is none.
            IntegrityError: (INTEGRITY_MISMATCH) it is another than `verify_meta` says; nothing is left of it.
        """
        expected, parts = Expected(verify_meta), self._named(name_or_uri)
        if not is_folder(name_or_uri):
            local = parts if local_name is None else self._folder.parts_below(local_name)
            if not local:
                raise InvalidArgument(
                    f"{str(local_name)!r} is the folder of this job; use a path of a file in it",
                    code="FILE_NAME_INVALID",
                )
            path, blob = await self._copies.fetch(self._key(parts), local, expected)
            self._tell("download", parts, size=blob.size, etag=blob.tag, sha256=expected.sha256)
            return path
        if expected:
            raise InvalidArgument("verify_meta is only for a file, but this is a folder", code="VERIFY_META_INVALID")
        local = parts if local_name is None else self._folder.parts_below(local_name)
        found = await self._listed(parts)
        if not found:
            raise NotFound(f"there is no file below {self._uri(parts)}/", code="FILE_NOT_FOUND")

        async def fetch(blob: Blob) -> None:
            inner = parts_of(blob.key.removeprefix(self._prefix))
            await self._copies.fetch(blob.key, local + inner[len(parts) :], Expected(None))

        await together(found, fetch)
        self._tell("download", parts, files=len(found), size=sum(blob.size for blob in found))
        return self._folder.root.joinpath(*local)

    async def upload(self, local: str | Path, remote: str | None = None) -> str:
        """Send a local file, or all files of a folder; the URI, with a `/` at its end where it is a folder.

        Arguments:
            local: a path from `path` or `download`, or one below the job's folder.
            remote: its name in the bucket; by default as it is called here.
        """
        parts = self._folder.parts_below(local)
        name = parts if remote is None else self._named(remote)
        if not await asyncio.to_thread(self._folder.is_folder, parts):
            if remote is not None and is_folder(remote):
                raise InvalidArgument(
                    f"{'/'.join(parts)!r} is a file, but {remote!r} is used as a folder", code="FILE_NAME_INVALID"
                )
            await self._before_storing()
            size, tag = await self._copies.send(parts, self._key(name))
            self._tell("upload", name, size=size, etag=tag)
            return self._uri(name)
        files = await asyncio.to_thread(self._folder.files, parts)
        await self._before_storing()
        sizes: list[int] = []

        async def send(inner: Parts) -> None:
            size, _ = await self._copies.send(inner, self._key(name + inner[len(parts) :]))
            sizes.append(size)

        await together(files, send)
        self._tell("upload", name, files=len(files), size=sum(sizes))
        return self._uri(name) + ("/" if name else "")

    async def upload_stream(self, name: str, stream: AsyncIterable[bytes]) -> str:
        """Store what comes, as it comes; the URI. Where the stream raises, nothing is stored.

        Raises:
            TooLarge: (LIMIT_EXCEEDED) it is larger than S3 takes: 78 GiB.
        """
        parts, size = self._file(name), 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in stream:
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise InvalidArgument(f"the stream of {name!r} gave a {type(chunk).__name__}; give bytes")
                size += len(chunk)
                if size > MAX_PARTS * PART_BYTES:
                    message = f"the stream of {name!r} has over {MAX_PARTS * PART_BYTES} bytes; write several files"
                    raise TooLarge(message, code="LIMIT_EXCEEDED")
                yield bytes(chunk)

        await self._before_storing()
        tag = await self._blobs.put_stream(self._key(parts), counted(), PART_BYTES)
        self._tell("upload", parts, size=size, etag=tag)
        return self._uri(parts)

    async def read_text(self, name_or_uri: str) -> str:
        """The text (UTF-8) of a file of at most 16 MiB: as it is in the bucket, or else here.

        Raises:
            NotFound: (FILE_NOT_FOUND) it is in neither place.
            TooLarge: (LIMIT_EXCEEDED) it is larger; `download` takes it.
            InvalidArgument: (NOT_TEXT) it is no UTF-8.
        """
        content = await self._read(name_or_uri)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"file {name_or_uri!r} is not UTF-8 text", code="NOT_TEXT") from error

    async def read_json(self, name_or_uri: str) -> Any:
        """The JSON that a file of at most 16 MiB holds; raises as `read_text`, and InvalidArgument (NOT_JSON)."""
        content = await self._read(name_or_uri)
        try:
            return parse(content)
        except ValueError as error:
            raise InvalidArgument(f"file {name_or_uri!r} is not valid JSON: {error}", code="NOT_JSON") from error

    async def write_text(self, name: str, text: str, upload: bool = True) -> str:
        """Write a local file, and send it; its URI, or else its local path.

        Arguments:
            text: at most 16 MiB, as UTF-8.
            upload: False: it is only here, and for this node's steps alone.
        Raises:
            TooLarge: (LIMIT_EXCEEDED) it is larger; `upload` takes it.
            InvalidArgument: (NOT_TEXT) UTF-8 cannot hold it.
        """
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the content for {name!r} is not valid Unicode text", code="NOT_TEXT") from error
        return await self._write(name, content, upload)

    async def write_json(self, name: str, data: Any, upload: bool = True) -> str:
        """As `write_text`, of a value as JSON.

        Raises:
            InvalidArgument: (NOT_JSON) JSON cannot hold it.
        """
        if why := obstacle(data, "data"):
            raise InvalidArgument(f"the content for {name!r} cannot be written as JSON: {why}", code="NOT_JSON")
        try:
            content = orjson.dumps(data)
        except TypeError as error:
            raise InvalidArgument(
                f"the content for {name!r} cannot be written as JSON: {error}", code="NOT_JSON"
            ) from error
        return await self._write(name, content, upload)

    async def generate_presigned_url(self, name: str, method: str = "GET", expires: int = 3600) -> str:
        """A URL by which whoever has it may fetch a file, or store one with "PUT". It is a secret while it lasts.

        Arguments:
            expires: for how many seconds, 1 to 604,800 (7 days).
        """
        parts = self._file(name)
        if method not in METHODS:
            raise InvalidArgument(f"method is {method!r}; give one of {', '.join(METHODS)}", code="FILE_URL_INVALID")
        if type(expires) is not int or not 1 <= expires <= MAX_EXPIRES_S:
            message = f"expires is {expires!r}; give a whole number of seconds from 1 to {MAX_EXPIRES_S}"
            raise InvalidArgument(message, code="FILE_URL_INVALID")
        if method == "PUT":
            await self._before_storing()
        url = await self._blobs.sign(self._key(parts), method, expires)
        self._tell("sign", parts, method=method)
        return url

    async def cleanup(self) -> None:
        """Delete all files of the job, in the bucket and here. When the job is over that is done in any case."""
        await asyncio.to_thread(self._folder.remove)
        await forget(self._blobs, self._prefix)
        self._tell("cleanup", ())

    # How -------------------------------------------------------------------------------------------------------------

    def _named(self, name_or_uri: str) -> Parts:
        parts = named(name_or_uri, self._blobs.bucket, self._prefix)
        self._key(parts)
        return parts

    def _file(self, name_or_uri: str) -> Parts:
        parts = self._named(name_or_uri)
        if is_folder(name_or_uri):
            message = f"{name_or_uri!r} is the name of a folder; give the name of a file"
            raise InvalidArgument(message, code="FILE_NAME_INVALID")
        return parts

    def _key(self, parts: Parts) -> str:
        return key_of(self._prefix, parts)

    def _uri(self, parts: Parts = ()) -> str:
        return f"s3://{self._blobs.bucket}/{self._prefix}{'/'.join(parts)}"

    def _tell(self, operation: str, parts: Parts, **facts: Any) -> None:
        if len(self.told) < MAX_TOLD:
            # Not every store gives a tag, and not every hash is known.
            known = {name: fact for name, fact in facts.items() if fact != ""}
            self.told.append({"operation": operation, "uri": self._uri(parts), **known})

    async def _before_storing(self) -> None:
        if not self._marked:
            await self._mark(self._job_id)
            self._marked = True

    async def _listed(self, parts: Parts) -> list[Blob]:
        found: list[Blob] = []
        prefix = self._prefix + "".join(f"{part}/" for part in parts)
        async for page in self._blobs.list(prefix):
            found += page
            if len(found) > MAX_FILES:
                message = f"there are over {MAX_FILES} files below {self._uri(parts)}/; fetch them folder by folder"
                raise TooLarge(message, code="LIMIT_EXCEEDED")
        return found

    async def _read(self, name_or_uri: str) -> bytes:
        parts = self._file(name_or_uri)
        try:
            content, blob = await self._copies.read(self._key(parts))
        except NotFound:
            return await asyncio.to_thread(self._copies.read_local, parts)
        self._tell("read", parts, size=len(content), etag=blob.tag)
        return content

    async def _write(self, name: str, content: bytes, upload: bool) -> str:
        parts = self._file(name)
        bounded(name, len(content))
        path = await asyncio.to_thread(self._folder.write, parts, content)
        if not upload:
            return str(path)
        await self._before_storing()
        tag = await self._blobs.put(self._key(parts), content)
        self._tell("upload", parts, size=len(content), etag=tag)
        return self._uri(parts)
