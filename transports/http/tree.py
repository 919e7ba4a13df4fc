"""The HTTP door: the route of a job's tree."""

from __future__ import annotations

from holon.domain.tree import MAX_NODES, Asked
from holon.engine.trees import Trees
from holon.errors import InvalidArgument, Violation
from transports.http.asgi import Reply
from transports.http.inputs import OF_TREE, names
from transports.http.request import Request
from transports.http.tree_shapes import node_json

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
            _number(asked, "max_depth", 0, _MAX_DEPTH),
            _number(asked, "page_size", 1, MAX_NODES) or MAX_NODES,
            asked.get("page_token", ""),
            _flag(asked, "digests"),
        )
        page = await self._trees.page(request.client.name, request.job_id, wanted)
        return Reply.of(200, {"nodes": [node_json(node) for node in page.nodes], "next_page_token": page.token})


def _number(asked: dict[str, str], name: str, least: int, most: int) -> int | None:
    text = asked.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise _invalid(name, f"must be a whole number from {least} to {most}, not {text[:40]!r}")
    return int(text)


def _flag(asked: dict[str, str], name: str) -> bool:
    text = asked.get(name, "false")
    if text not in ("true", "false"):
        raise _invalid(name, f"must be true or false, not {text[:40]!r}")
    return text == "true"


def _invalid(name: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {reason}", details=[Violation(name, reason)])
