"""Files in a bucket of S3, or of what speaks as it does, through obstore."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from holon.errors import FailedPrecondition, HolonError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from holon.ports import Blob
from holon.storage.s3_settings import S3Settings
from holon.telemetry.metrics import FilesMetrics
from holon.telemetry.seldom import Seldom

if TYPE_CHECKING:
    # It is nowhere but in the library's stubs.
    from obstore.store import S3Credential

log = logging.getLogger(__name__)

# A connection, the answer to a part that was sent, and the next bytes of one that is fetched, each may take so long.
CONNECT_S = 5
SILENCE_S = 30
# And all of one file.
LONGEST_S = 86_400
RETRIES = 3
RETRYING_S = 60
# Who waits for so long until other calls are over, would wait for ever.
PATIENCE_S = 600
# How many parts of one file are under way at once, and how many bytes of one are handed on at least.
PARTS_AT_ONCE = 2
CHUNK_BYTES = 2**20
LISTED = 1000
# Not every S3 reads other characters of where a listing begins as they were signed: it begins before them.
_PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/?)+")
_SAID = 300
_CAUSE = re.compile(r'<Code>(\w+)</Code>|(InvalidCertificate\(\s*\w+)|message: "([^"]{1,100})"|(TimedOut)')
_STATUS_DENIED = re.compile(r"status code: 40[13]\b")


class S3Blobs:
    """See the port `BlobStore`. It holds nothing that would have to be closed."""

    def __init__(self, settings: S3Settings, *, silence: float = SILENCE_S, retrying: float = RETRYING_S) -> None:
        self.bucket = settings.bucket
        self.up = True
        self.metrics = FilesMetrics()
        self._place = f"{settings.endpoint.rstrip('/')}/{settings.bucket}"
        self._free = asyncio.Semaphore(settings.concurrency)
        self._away = Seldom(log)
        # All of it is said here: whatever is not, the library would take from variables of the environment.
        self._store = S3Store(
            settings.bucket,
            config={
                "endpoint": settings.endpoint.rstrip("/"),
                "aws_endpoint_url_s3": settings.endpoint.rstrip("/"),
                "region": settings.region,
                "virtual_hosted_style_request": False,
                "skip_signature": False,
                "s3_express": False,
            },
            credential_provider=partial(_key, settings),
            client_options={
                "allow_http": settings.endpoint.startswith("http://"),
                "allow_invalid_certificates": False,
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "read_timeout": timedelta(seconds=silence),
                "timeout": timedelta(seconds=LONGEST_S),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=retrying),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    def __repr__(self) -> str:
        return f"S3Blobs({self._place}, up={self.up})"

    async def put(self, key: str, data: bytes) -> str:
        """See the port."""
        async with self._room():
            with self._call("put", key):
                stored = await obstore.put_async(self._store, key, data, use_multipart=False)
        self.metrics.bytes.add("sent", by=len(data))
        return _tag(stored["e_tag"])

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], part: int) -> str:
        """See the port."""
        feed = _Feed(chunks, self.metrics)
        async with self._room():
            with suppress(_SourceError), self._call("put", key):
                try:
                    stored = await obstore.put_async(
                        self._store,
                        key,
                        feed.chunks(),
                        use_multipart=True,
                        chunk_size=part,
                        max_concurrency=PARTS_AT_ONCE,
                    )
                except Exception:
                    if feed.error is None:
                        raise
                    raise _SourceError from None
                return _tag(stored["e_tag"])
        raise feed.error or AssertionError("a source that has not failed")

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[Blob, AsyncIterator[bytes]]]:
        """See the port."""
        async with self._room():
            with self._call("get", key):
                answer = await obstore.get_async(self._store, key)
            yield _blob(answer.meta), self._bytes(key, answer)

    async def _bytes(self, key: str, answer: obstore.GetResult) -> AsyncIterator[bytes]:
        stream = answer.stream(min_chunk_size=CHUNK_BYTES)
        while True:
            with self._translated(key):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            self.metrics.bytes.add("fetched", by=len(chunk))
            yield bytes(chunk)

    async def head(self, key: str) -> Blob:
        """See the port."""
        async with self._room():
            with self._call("head", key):
                return _blob(await obstore.head_async(self._store, key))

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[Blob]]:
        """See the port."""
        offset = _PLAIN_PATH.match(after)
        pages = obstore.list(
            self._store, prefix=prefix.rstrip("/"), offset=offset[0] if offset else None, chunk_size=LISTED
        )
        while True:
            async with self._room():
                with self._call("list", prefix):
                    page = await anext(pages, None)
            if page is None:
                return
            yield [_blob(one) for one in page if one["path"] > after]

    async def delete(self, keys: Sequence[str]) -> None:
        """See the port."""
        for at in range(0, len(keys), LISTED):
            async with self._room():
                with self._call("delete", keys[at]):
                    try:
                        await obstore.delete_async(self._store, keys[at : at + LISTED])
                    except FileNotFoundError as error:
                        # Some say so of a file that is gone.
                        if "NoSuchBucket" in str(error):
                            raise

    async def sign(self, key: str, method: str, seconds: int) -> str:
        """See the port."""
        with self._translated(key):
            how = cast("Literal['GET', 'PUT']", method)
            return await obstore.sign_async(self._store, how, key, timedelta(seconds=seconds))

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        """A place among the calls that may be under way."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._free.acquire()
        except TimeoutError:
            message = f"S3 was busy with other files of this node for over {PATIENCE_S} s; raise S3_MAX_CONCURRENCY"
            raise Unavailable(message, code="FILES_UNAVAILABLE") from None
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def _call(self, what: str, key: str) -> Iterator[None]:
        """One call; it is counted by what became of it."""
        result = "given_up"
        try:
            with self._translated(key):
                yield
            result, self.up = "ok", True
        except HolonError as error:
            result = error.code.lower()
            raise
        finally:
            self.metrics.calls.add(what, result)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """What the library raises, as an error of ours."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise self._refused(key, error) from None
        except ValueError as error:
            raise InvalidArgument(f"{key!r} can be no key of a file", code="FILE_NAME_INVALID") from error

    def _refused(self, key: str, error: Exception) -> HolonError:
        """What the library says, as an error of ours. Clients may read that: where the bucket is, only the log says."""
        text = str(error)
        # The first line has the call and its status; what follows, the answer or what was in the way, among much else.
        cause = _CAUSE.search(text)
        said = text.partition("\n")[0].partition(": <?xml")[0][:_SAID] + (
            f": {cause[cause.lastindex or 0]}" if cause else ""
        )
        place = f"bucket {self.bucket!r} (S3_DEFAULT_BUCKET)"
        if "NoSuchBucket" not in text and isinstance(error, FileNotFoundError):
            return NotFound(f"there is no file s3://{self.bucket}/{key}", code="FILE_NOT_FOUND")
        self.up = False
        self._away.warn("files of jobs cannot be used (%s)", said, why=f"{self._place}: {type(error).__name__}")
        if "NoSuchBucket" in text:
            return FailedPrecondition(f"there is no {place}: create it, or name another", code="FILES_NO_BUCKET")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _STATUS_DENIED.search(said):
            message = f"{place} refuses what S3_ACCESS_KEY asks of it; the node's log says what"
            return PermissionDenied(message, code="FILES_DENIED")
        return Unavailable(f"{place} cannot be used just now; the node's log says why", code="FILES_UNAVAILABLE")


class _SourceError(Exception):
    """What was to be sent could not be had."""


class _Feed:
    """What is sent of a file as it comes; `error` is what its source raised, which is not the library's to change."""

    def __init__(self, source: AsyncIterator[bytes], metrics: FilesMetrics) -> None:
        self._source = source
        self._metrics = metrics
        self.error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                self._metrics.bytes.add("sent", by=len(chunk))
                yield chunk
        except Exception as error:
            self.error = error
            raise


def _key(settings: S3Settings) -> S3Credential:
    return {
        "access_key_id": settings.access_key,
        "secret_access_key": settings.secret_key,
        "token": None,
        "expires_at": None,
    }


def _tag(tag: str | None) -> str:
    return (tag or "").strip('"')


def _blob(meta: Any) -> Blob:
    return Blob(meta["path"], meta["size"], _tag(meta["e_tag"]), round(meta["last_modified"].timestamp() * 1000))
