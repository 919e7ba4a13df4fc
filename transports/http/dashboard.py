"""The HTTP door: the dashboard: a page on which people see and steer jobs, packaged in `holon/web/dashboard`.

It is a client as any other: what it shows it asks the public API for, with the token that its user types. So it is the
same at every node, and tells nothing to those who have no token.
"""

from __future__ import annotations

from holon.errors import NotFound
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import Parameter
from holon.transports.http.operations import PUBLIC, Answer, Operation, document
from holon.transports.http.packaged import CSS, HTML, JAVASCRIPT, page_file
from holon.transports.http.request import Request

DASHBOARD_PAGE = f"{PUBLIC}/dashboard"
_FOLDER = "dashboard"
_SCRIPTS = (
    "acting", "api", "asked", "blueprints", "carried", "dom", "dot", "exact", "fleet", "follow", "format", "graph",
    "history", "job", "jobs", "layout", "main", "questions", "signals", "tree",
)  # fmt: skip
_PARTS = {"style.css": CSS} | {f"{name}.js": JAVASCRIPT for name in _SCRIPTS}
_PART = Parameter("part", "path", "A file of the dashboard", {"type": "string", "enum": list(_PARTS)})


def dashboard() -> list[Operation]:
    """Return the calls that show the dashboard, and its parts."""
    return [
        document("get_dashboard_page", DASHBOARD_PAGE, _page, "Show the dashboard, a web page for people", HTML),
        Operation(
            "get_dashboard_part",
            "GET",
            f"{DASHBOARD_PAGE}/{{{_PART.name}}}",
            _part,
            "The file",
            "",
            (Answer(200, "It", {"type": "string"}, (JAVASCRIPT, CSS)),),
            (_PART,),
            ("ROUTE_NOT_FOUND",),
            public=True,
        ),
    ]


async def _page(_: Request) -> Reply:
    return page_file(_FOLDER, "index.html", HTML, no_markup=True)


async def _part(request: Request) -> Reply:
    kind = _PARTS.get(request.named)
    if kind is None:
        raise NotFound(f"the dashboard has no file {request.named[:256]!r}", code="ROUTE_NOT_FOUND")
    return page_file(_FOLDER, request.named, kind, no_markup=True)
