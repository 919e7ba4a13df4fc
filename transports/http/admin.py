"""The HTTP door: what administrators ask of the node itself."""

from __future__ import annotations

from typing import Any

from holon.engine.shared_reloading import Reload
from holon.errors import InvalidArgument, Violation
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import RELOAD_FIELDS
from holon.transports.http.request import Request
from holon.transports.http.strict_json import read_object

_NONE: frozenset[str] = frozenset()
_BODY_OF_RELOAD = frozenset(RELOAD_FIELDS)
_WORKERS = ("workers",)


class AdminRoutes:
    """The routes of administrators. Each raises what `reload` raises, and InvalidArgument for a wrong body."""

    def __init__(self, reload: Reload) -> None:
        self._reload = reload

    async def reload(self, request: Request) -> Reply:
        """Read files again: all of them, or those that are named."""
        request.parameters(_NONE)
        body = await request.body()
        targets = _targets(read_object(body, _BODY_OF_RELOAD).get("targets", [])) if body else ()
        return Reply.of(200, {"status": "reloaded", "reloaded": await self._reload(targets, request.by)})

    async def reload_workers(self, request: Request) -> Reply:
        """Read the workers' file again."""
        request.parameters(_NONE)
        if body := await request.body():
            read_object(body, _NONE)
        await self._reload(_WORKERS, request.by)
        return Reply.of(200, {"status": "worker_configs_reloaded"})


def _targets(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        reason = 'must be a list of names, such as ["clients"]'
        raise InvalidArgument(f"targets {reason}", details=[Violation("targets", reason)])
    return tuple(given)
