"""The HTTP door: what it shows to people and their programs: the OpenAPI document, and a page to read and try it.

The page is Swagger UI, packaged in `holon/web/docs`; it asks nobody but the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from holon.transports.http.asgi import Packing, Reply
from holon.transports.http.openapi import written
from holon.transports.http.operations import PUBLIC, Operation, document
from holon.transports.http.packaged import CSS, HTML, JAVASCRIPT, page_file
from holon.transports.http.request import Request

_PAGE = f"{PUBLIC}/docs"
_FILES = {
    "swagger-ui.css": CSS,
    "swagger-ui-bundle.js": JAVASCRIPT,
    "page.js": JAVASCRIPT,
}


def pages(operations: Iterable[Operation], version: str) -> list[Operation]:
    """Return the calls that show what the door can do: these operations, and themselves.

    Arguments:
        version: the node's.
    """
    text = b""

    async def openapi(_: Request) -> Reply:
        return Reply(200, text, ((b"cache-control", b"no-cache"),), packing=Packing.ONCE)

    shown = [
        document("get_openapi", f"{PUBLIC}/openapi.json", openapi, "Show this document", "application/json"),
        document("get_docs", _PAGE, partial(_file, "index.html", HTML), "Show this document as a web page", HTML),
        *(
            document(
                f"get_docs_{_words(name)}", f"{_PAGE}/{name}", partial(_file, name, kind), "A file of that page", kind
            )
            for name, kind in _FILES.items()
        ),
    ]
    text = written([*operations, *shown], version)
    return shown


def _words(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


async def _file(name: str, media_type: str, _: Request) -> Reply:
    return page_file("docs", name, media_type)
