"""The HTTP door: the routes that tell of the node: what it runs, who works for it and what they offer, its figures."""

from __future__ import annotations

from holon.domain.graph import graph_of
from holon.engine.overview import Overview
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import OF_PAGES, OF_WORKERS, names
from holon.transports.http.node_shapes import blueprint_json, figures_json, skill_json, worker_json
from holon.transports.http.reading import flag, page_size
from holon.transports.http.request import Request

GRAPH_TYPE = "text/vnd.graphviz"
_NONE: frozenset[str] = frozenset()
_PAGES = names(OF_PAGES) | {"limit"}
_WORKERS = names(OF_WORKERS) | {"limit"}


class NodeRoutes:
    """The routes of the node. Each raises what `Overview` raises, and InvalidArgument for what it cannot read."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    async def blueprints(self, request: Request) -> Reply:
        """Show a page of the blueprints."""
        asked = request.parameters(_PAGES)
        page, more = self._overview.blueprints(page_size(asked), asked.get("page_token", ""))
        return Reply.of(200, {"blueprints": [blueprint_json(one) for one in page], "next_page_token": more})

    async def graph(self, request: Request) -> Reply:
        """Show a blueprint as a graph, in the DOT language."""
        request.parameters(_NONE)
        dot = graph_of(self._overview.blueprint(request.named)).dot
        return Reply(200, dot.encode(), media_type=f"{GRAPH_TYPE}; charset=utf-8".encode())

    async def workers(self, request: Request) -> Reply:
        """Show a page of the workers."""
        asked = request.parameters(_WORKERS)
        page, more = self._overview.workers(
            page_size(asked), asked.get("page_token", ""), asked.get("skill", ""), flag(asked, "connected")
        )
        return Reply.of(200, {"workers": [worker_json(one) for one in page], "next_page_token": more})

    async def catalog(self, request: Request) -> Reply:
        """Show a page of what is offered now."""
        asked = request.parameters(_PAGES)
        page, more = self._overview.skills(page_size(asked), asked.get("page_token", ""))
        return Reply.of(200, {"skills": [skill_json(one) for one in page], "next_page_token": more})

    async def dashboard(self, request: Request) -> Reply:
        """Show the figures of now."""
        request.parameters(_NONE)
        return Reply.of(200, figures_json(await self._overview.stats()))
