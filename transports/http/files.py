"""The HTTP door: the routes of the files of jobs."""

from __future__ import annotations

from holon.engine.client_files import MAX_EXPIRES_S, MAX_FILE_BYTES, ClientFiles
from holon.errors import Unimplemented
from holon.telemetry.audit import audited
from holon.transports.http.asgi import Packing, Reply
from holon.transports.http.inputs import DEFAULT_EXPIRES_S, OF_FILES, OF_UPLOAD, names
from holon.transports.http.reading import invalid, number, page_size
from holon.transports.http.request import Request

_NONE: frozenset[str] = frozenset()
_PAGES = names(OF_FILES) | {"limit"}
_UPLOAD = names(OF_UPLOAD)


class FileRoutes:
    """Lists, takes and hands out files; raises what `ClientFiles` raises, and InvalidArgument for what it cannot read.

    Arguments:
        files: None: jobs have none, and every route says so (FILES_OFF).
    """

    def __init__(self, files: ClientFiles | None) -> None:
        self._kept = files

    @property
    def on(self) -> bool:
        """Whether jobs have files."""
        return self._kept is not None

    async def list(self, request: Request) -> Reply:
        """Show a page of a job's files, by name."""
        files, asked = self._files(), request.parameters(_PAGES)
        found, token = await files.list(request.client, request.named, page_size(asked), asked.get("page_token", ""))
        shown = [{"name": one.key, "size": one.size} for one in found]
        return Reply.of(200, {"files": shown, "next_page_token": token})

    async def upload_url(self, request: Request) -> Reply:
        """Sign a URL by which a file can be stored."""
        files, asked = self._files(), request.parameters(_UPLOAD)
        name = asked.get("filename")
        if name is None:
            raise invalid("filename", "is missing; give the name of the file")
        seconds = number(asked, "expires_in", 1, MAX_EXPIRES_S) or DEFAULT_EXPIRES_S
        with audited("file_upload_allowed", request.by, lambda: request.named, file=name):
            url = await files.upload_url(request.client, request.named, name, seconds)
        return Reply.of(200, {"url": url, "expires_in": seconds, "method": "PUT"}, packing=Packing.NEVER)

    async def store(self, request: Request) -> Reply:
        """Store a file as it comes in."""
        files = self._files()
        request.parameters(_NONE)
        with audited("file_stored", request.by, lambda: request.named, file=request.rest):
            chunks = request.chunks(MAX_FILE_BYTES)
            uri = await files.store(request.client, request.named, request.rest, chunks)
        return Reply.of(200, {"status": "uploaded", "s3_uri": uri})

    async def download(self, request: Request) -> Reply:
        """Lead to where a file can be fetched."""
        files = self._files()
        request.parameters(_NONE)
        url = await files.download_url(request.client, request.named, request.rest)
        return Reply.of(302, {"url": url}, ((b"location", url.encode()),), Packing.NEVER)

    def _files(self) -> ClientFiles:
        if self._kept is None:
            raise Unimplemented(
                "this node stores no files of jobs; its operator has not set S3_ENDPOINT_URL", code="FILES_OFF"
            )
        return self._kept
