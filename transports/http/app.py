"""The HTTP door: the ASGI application. It finds the route, checks the token, and turns errors into answers.

Plain ASGI: a route is found by one look into a table, and nothing is made for a request that it does not need.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from typing import TypeAlias

from holon.engine.blueprints import Blueprints
from holon.engine.jobs import Jobs
from holon.errors import HolonError, NotFound, Unavailable
from holon.security.access import TokenGate
from transports.http.asgi import Receive, Reply, Scope, Send
from transports.http.refusals import no_such_method, refusal, unexpected
from transports.http.request import Disconnected, Request
from transports.http.routes import JobRoutes

log = logging.getLogger(__name__)

_Route = Callable[[Request], Awaitable[Reply]]
_JobRoute = Callable[[str, Request], Awaitable[Reply]]
Metrics: TypeAlias = Callable[[], tuple[bytes, str]]

STATUS_PATH = "/_public/status"
METRICS_PATH = "/_public/metrics"
_PUBLIC = "/_public/"
_JOBS = "/api/v1/jobs"
_RETRY_SECONDS = 1.0


class App:
    """The application that the door serves.

    Arguments:
        blueprints: those with a path get a route; one that is registered later gets none.
        max_body: the most bytes that a request's body may have.
        metrics: what is measured, as text, and its media type; None has no such route.
    """

    def __init__(
        self, jobs: Jobs, blueprints: Blueprints, gate: TokenGate, max_body: int, metrics: Metrics | None = None
    ) -> None:
        routes = JobRoutes(jobs)
        self.draining = False
        self._gate = gate
        self._max_body = max_body
        self._date = (0, b"")
        self._create = {blueprint.path: blueprint.name for blueprint in blueprints if blueprint.path}
        self._routes = routes
        self._fixed: dict[str, dict[str, _Route]] = {STATUS_PATH: {"GET": self._status}, _JOBS: {"GET": routes.list}}
        if metrics is not None:
            self._fixed[METRICS_PATH] = {"GET": partial(_measured, metrics)}
        self._of_job: dict[str, dict[str, _JobRoute]] = {
            "": {"GET": routes.get},
            "cancel": {"POST": routes.cancel},
            "history": {"GET": routes.history},
        }

    def __repr__(self) -> str:
        return f"<App routes={len(self._create) + len(self._fixed) + len(self._of_job)} draining={self.draining}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, self._max_body)
        try:
            reply = await self._answer(request)
        except (Disconnected, asyncio.CancelledError):
            # Only the door's own end cancels a request, and by then nobody is left to answer to.
            return
        except Exception as error:  # noqa: BLE001  # the outermost frame of a request
            reply = (refusal(error) if isinstance(error, HolonError) else None) or _unexpected(request, error)
        await self._send(reply, request, send)

    async def _answer(self, request: Request) -> Reply:
        request.check_host()
        path, method = request.path, request.method
        blueprint = self._create.get(path)
        if blueprint is not None and method == "POST":
            self._gate.check(request.token())
            if self.draining:
                raise Unavailable(
                    "this node is shutting down and takes no new jobs; send it to another, or again in a moment",
                    code="DRAINING",
                    retry_after=_RETRY_SECONDS,
                )
            return await self._routes.create(blueprint, request)
        fixed = self._fixed.get(path)
        if fixed and (route := fixed.get(method)):
            if not path.startswith(_PUBLIC):
                self._gate.check(request.token())
            return await route(request)
        job_id, _, what = path.removeprefix(f"{_JOBS}/").partition("/")
        of_job = self._of_job.get(what) if path.startswith(f"{_JOBS}/") and job_id else None
        if of_job and (job_route := of_job.get(method)):
            self._gate.check(request.token())
            return await job_route(job_id, request)
        allowed = {*(("POST",) if blueprint else ()), *(fixed or ()), *(of_job or ())}
        if allowed:
            return no_such_method(method, path, tuple(sorted(allowed)))
        raise NotFound(f"nothing is at {path[:256]!r}; see the routes in docs/http.md", code="ROUTE_NOT_FOUND")

    async def _status(self, _: Request) -> Reply:
        if self.draining:
            return Reply(503, b'{"status":"draining"}')
        return Reply(200, b'{"status":"ok"}')

    async def _send(self, reply: Reply, request: Request, send: Send) -> None:
        headers = [
            (b"date", self._now()),
            (b"content-type", reply.media_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        # What is left of the body would otherwise be read as far as it goes, or taken for the next request.
        closing = request.unread
        if closing or self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if closing:
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await request.linger()
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": reply.body})

    def _now(self) -> bytes:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


async def _measured(metrics: Metrics, _: Request) -> Reply:
    text, media_type = metrics()
    return Reply(200, text, media_type=media_type.encode("latin-1"))


def _unexpected(request: Request, error: Exception) -> Reply:
    log.error("%s %s failed", request.method, request.path[:256], exc_info=error)
    return unexpected()
