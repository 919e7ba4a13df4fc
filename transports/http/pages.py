"""The HTTP door: what it shows to people and their programs: the OpenAPI document, and a page to read and try it.

The page is Swagger UI, packaged in `holon/web/docs`; it asks nobody but the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from importlib.resources import files

from transports.http.asgi import Reply
from transports.http.openapi import written
from transports.http.operations import PUBLIC, Operation, document
from transports.http.request import Request

_PAGE = f"{PUBLIC}/docs"
_HTML = "text/html"
_FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "page.js": "text/javascript",
}
# What the page may do; the images are in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_GUARDED = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # A node that was updated must not be shown by the files of the one before.
    (b"cache-control", b"no-cache"),
)


def pages(operations: Iterable[Operation], version: str) -> list[Operation]:
    """Return the calls that show what the door can do: these operations, and themselves.

    Arguments:
        version: the node's.
    """
    text = b""

    async def openapi(_: Request) -> Reply:
        return Reply(200, text, ((b"cache-control", b"no-cache"),))

    shown = [
        document("get_openapi", f"{PUBLIC}/openapi.json", openapi, "Show this document", "application/json"),
        document("get_docs", _PAGE, partial(_file, "index.html", _HTML), "Show a page of it", _HTML),
        *(
            document(f"get_docs_{_words(name)}", f"{_PAGE}/{name}", partial(_file, name, kind), "A part of it", kind)
            for name, kind in _FILES.items()
        ),
    ]
    text = written([*operations, *shown], version)
    return shown


def _words(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


async def _file(name: str, media_type: str, _: Request) -> Reply:
    return Reply(200, _content(name), _GUARDED, f"{media_type}; charset=utf-8".encode())


@cache
def _content(name: str) -> bytes:
    """A file, read once: whoever asks for it, and however slowly they take it, it is in memory once."""
    return files("holon").joinpath("web", "docs", name).read_bytes()
