"""The HTTP door: the route of a job's tree."""

from __future__ import annotations

from holon.domain.tree import MAX_NODES, Asked
from holon.engine.trees import Trees
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import OF_TREE, names
from holon.transports.http.reading import flag, number
from holon.transports.http.request import Request
from holon.transports.http.tree_shapes import node_json

_KNOWN = names(OF_TREE)
# There are never so many levels.
_MAX_DEPTH = 999_999_999


class TreeRoutes:
    """Shows trees; raises what `Trees` raises, and InvalidArgument for what it cannot read."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    async def get(self, request: Request) -> Reply:
        """Show a page of the tree of a job."""
        asked = request.parameters(_KNOWN)
        wanted = Asked(
            number(asked, "max_depth", 0, _MAX_DEPTH),
            number(asked, "page_size", 1, MAX_NODES) or MAX_NODES,
            asked.get("page_token", ""),
            flag(asked, "digests") or False,
        )
        page = await self._trees.page(request.client, request.named, wanted)
        return Reply.of(200, {"nodes": [node_json(node) for node in page.nodes], "next_page_token": page.token})
