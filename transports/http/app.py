"""The HTTP door: the ASGI application. It finds the route, checks the token, and turns errors into answers.

Plain ASGI: a route is found by one look into a table, and nothing is made for a request that it does not need.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from functools import partial
from typing import TypeAlias

from holon.domain import paths
from holon.domain.texts import nearest
from holon.engine.blueprints import Blueprints
from holon.engine.client_files import ClientFiles
from holon.engine.jobs import Jobs
from holon.engine.overview import Overview
from holon.engine.rates import Call, RateLimits
from holon.engine.trees import Trees
from holon.engine.watching import Watching
from holon.errors import HolonError, NotFound, Unavailable
from holon.security.clients import Clients, check_role
from holon.transports.http import operations
from holon.transports.http.admin import AdminRoutes
from holon.transports.http.approvals import ApprovalRoutes
from holon.transports.http.asgi import Receive, Reply, Scope, Send
from holon.transports.http.compression import Compressor
from holon.transports.http.dashboard import dashboard
from holon.transports.http.file_operations import of_files
from holon.transports.http.files import FileRoutes
from holon.transports.http.keys import KeyRoutes, Keys
from holon.transports.http.node import NodeRoutes
from holon.transports.http.node_operations import of_node
from holon.transports.http.operations import Operation
from holon.transports.http.pages import pages
from holon.transports.http.refusals import no_such_method, refusal, unexpected
from holon.transports.http.request import NOBODY, Disconnected, Request
from holon.transports.http.routes import JobRoutes
from holon.transports.http.tree import TreeRoutes
from holon.wire.arrivals import Arrivals

log = logging.getLogger(__name__)

Metrics: TypeAlias = Callable[[], Awaitable[tuple[bytes, str]]]
_Methods: TypeAlias = dict[str, Operation]

_RETRY_SECONDS = 1.0
_NO_TOKEN = "Missing X-Client-Token header"  # noqa: S105  what is said, no token
_UNKEPT = (b"cache-control", b"no-store")
_PIECE = 64 * 1024
# Every blueprint's path is below this.
_BLUEPRINTS_AT = f"{paths.API}/"
_ROUTES = "docs/http.md lists the routes"


class App:
    """The application that the door serves.

    Arguments:
        blueprints: those with a path get a route, as long as they are there.
        overview: what the node tells of itself, and has files read again by, for administrators.
        clients: who may come in.
        max_body: the most bytes that a request's body may have.
        metrics: what is measured, as text, and its media type; None has no such route.
        docs: the node's version, for the OpenAPI document; None shows neither that nor its page.
        rates: counts the calls of each client; None takes any number.
        keys: what workers' access tokens are signed with; None has no such route.
        files: what clients may do with files of jobs; None: jobs have none, and the routes say so.
        client_api: whether clients are served at all; without, there is only what is public.
    """

    def __init__(
        self,
        jobs: Jobs,
        watching: Watching,
        trees: Trees,
        blueprints: Blueprints,
        overview: Overview,
        clients: Clients,
        max_body: int,
        metrics: Metrics | None = None,
        docs: str | None = None,
        rates: RateLimits | None = None,
        keys: Keys | None = None,
        files: ClientFiles | None = None,
        *,
        client_api: bool = True,
    ) -> None:
        self.draining = False
        self._clients = clients
        self._rates = rates
        self._max_body = max_body
        self._arrivals = Arrivals()
        self._date = (0, b"")
        self._compressor = Compressor()
        # What looks for the job of a creation whose path is not one any more.
        self._repeat: Callable[[Request], Awaitable[Reply | None]] | None = None
        # By path; and where a path has a variable, by what stands before it, and by what follows.
        self._at: dict[str, _Methods] = {}
        self._around: dict[str, dict[str, _Methods]] = {}
        # The same where what follows has another variable, which is the rest: by what stands before that.
        self._resting: dict[str, dict[str, _Methods]] = {}
        own = [operations.status(self._status)]
        if metrics is not None:
            own.append(operations.metrics(partial(_measured, metrics)))
        if keys is not None:
            own.append(operations.keys(KeyRoutes(keys)))
        if client_api:
            routes = JobRoutes(jobs, watching)
            self._repeat = routes.repeat
            add = partial(
                self._add_clients, routes, TreeRoutes(trees), FileRoutes(files), blueprints, overview, docs, own
            )
            blueprints.on_replace(add)
            add()
        else:
            for operation in own:
                self._add(operation)

    def _add_clients(
        self,
        routes: JobRoutes,
        trees: TreeRoutes,
        files: FileRoutes,
        blueprints: Blueprints,
        overview: Overview,
        docs: str | None,
        public: Sequence[Operation],
    ) -> None:
        self._at, self._around, self._resting = {}, {}, {}
        own = [
            *operations.of_jobs(routes, trees),
            operations.of_approvals(ApprovalRoutes(routes.approvals, self._clients)),
            *of_node(NodeRoutes(overview)),
            *operations.of_admins(AdminRoutes(overview.reload)),
            *public,
            *dashboard(),
        ]
        started = [blueprint for blueprint in blueprints if blueprint.path]
        creations = [operations.creation(routes, blueprint) for blueprint in started]
        if docs is not None:
            # What the node cannot do at all is not told; who asks for it all the same learns why.
            own += pages([*creations, *own, *(of_files(files) if files.on else ())], docs)
        for operation in (*own, *of_files(files), *creations):
            self._add(operation)

    def __repr__(self) -> str:
        routes = len(self._at) + sum(map(len, self._around.values()))
        return f"<App routes={routes} draining={self.draining}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, self._max_body, self._arrivals)
        try:
            reply = await self._compressor.compressed(await self._answered(request), request.accepted)
        except (Disconnected, asyncio.CancelledError):
            # Only the door's own end cancels a request, and by then nobody is left to answer to.
            return
        await self._send(reply, request, send)

    async def _answered(self, request: Request) -> Reply:
        try:
            return await self._answer(request)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001  # the outermost frame of a request
            return (refusal(error) if isinstance(error, HolonError) else None) or _unexpected(request, error)

    async def _answer(self, request: Request) -> Reply:
        request.check()
        path = request.path
        methods = self._at.get(path) or self._naming(path, request)
        operation = methods.get(request.method) if methods is not None else None
        if operation is None or request.hides_a_slash():
            return await self._answer_elsewhere(methods, request)
        if not operation.public and (not operation.otherwise or request.token() is not None):
            self._admit(request, operation.role, f"{operation.method} {operation.path}")
            if self._rates is not None:
                await self._rates.admit(Call.HTTP, request.client.name)
        if operation.creates and self.draining:
            raise Unavailable(
                "this node is shutting down and accepts no new jobs; use another node, or retry later",
                code="DRAINING",
                retry_after=_RETRY_SECONDS,
            )
        return await operation.serve(request)

    async def _answer_elsewhere(self, methods: _Methods | None, request: Request) -> Reply:
        """Answer what no route is for. What had one may be repeated under its key: it is looked for."""
        path, is_a_path = request.path, not request.hides_a_slash()
        if not is_a_path:
            methods = None
        at_jobs = methods is None or any(one.path == paths.JOB for one in methods.values())
        is_creation = request.method == "POST" and at_jobs
        repeatable = is_creation and is_a_path and path.startswith(_BLUEPRINTS_AT)
        if repeatable and self._repeat is not None and request.has_key:
            self._admit(request, "", "")
            if self._rates is not None:
                await self._rates.admit(Call.HTTP, request.client.name)
            if (repeated := await self._repeat(request)) is not None:
                return repeated
        near = self._near(path) if is_creation else ""
        if methods is None:
            meant = self._meant(request) if is_a_path else ""
            where = (
                f"; all routes of the node are under {paths.OWN}; use {meant!r}" if meant else near or f"; {_ROUTES}"
            )
            raise NotFound(f"no route has the path {path[:256]!r}{where}", code="ROUTE_NOT_FOUND")
        hint = f"no blueprint has this path{near or ', see `holon blueprints list`'}" if is_creation else ""
        return no_such_method(request.method, path, tuple(sorted(methods)), hint)

    def _near(self, path: str) -> str:
        """What a misspelt path of a blueprint is like, for the end of a message; empty if there is none."""
        creations = (at for at, those in self._at.items() if any(one.creates for one in those.values()))
        names = {at.rpartition("/")[2]: at for at in creations}
        near = nearest(path.rpartition("/")[2], names)
        return f" (did you mean {names[near]!r}?)" if near is not None else ""

    def _meant(self, request: Request) -> str:
        """What a call with another version in its path is meant for; empty: nothing that is there."""
        for path in paths.of_own_version(request.path):
            methods = self._at.get(path) or self._naming(path, request)
            if methods is not None and request.method in methods:
                return path[:256]
        return ""

    def _admit(self, request: Request, role: str, what: str) -> None:
        try:
            request.credential = self._clients.admit(request.token(), _NO_TOKEN)
            request.client = request.credential.client
            check_role(request.client, role, what)
        except HolonError as error:
            self._clients.refused.call(error, request.by, f"{request.method} {request.path}")
            raise

    def _naming(self, path: str, request: Request) -> _Methods | None:
        for before, after in self._around.items():
            if path.startswith(before):
                request.named, slash, what = path.removeprefix(before).partition("/")
                # A slash at the end is another path, as everywhere else.
                if not (request.named and bool(slash) == bool(what)):
                    return None
                return after.get(what) or self._resting_at(before, what, request)
        return None

    def _resting_at(self, before: str, what: str, request: Request) -> _Methods | None:
        for start, methods in self._resting.get(before, {}).items():
            if what.startswith(start) and what != start:
                request.rest = what.removeprefix(start)
                return methods
        return None

    def _add(self, operation: Operation) -> None:
        before, variable, rest = operation.path.partition("{")
        if variable:
            after, another, _ = rest.partition("}")[2].removeprefix("/").partition("{")
            around = self._resting if another else self._around
            methods = around.setdefault(before, {}).setdefault(after, {})
        else:
            methods = self._at.setdefault(operation.path, {})
        methods[operation.method] = operation
        if operation.method == "GET":
            # The same answer, of which only the head is sent.
            methods["HEAD"] = operation

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
        if request.client is not NOBODY:
            # It is that client's alone, which no cache on the way can see by a header of ours.
            headers.append(_UNKEPT)
        # What is left of the body would otherwise be read as far as it goes, or taken for the next request.
        closing = request.unread
        if closing or self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = reply.body
        if len(body) > _PIECE:
            # Each connection would keep all of it, also of a page that is there once, as long as its client likes.
            for first in range(0, len(body), _PIECE):
                await send({"type": "http.response.body", "body": body[first : first + _PIECE], "more_body": True})
                # The loop writes it, and then knows whether the client takes it.
                await asyncio.sleep(0)
            body = b""
        if closing:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await request.linger()
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": body})

    def _now(self) -> bytes:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


async def _measured(metrics: Metrics, _: Request) -> Reply:
    text, media_type = await metrics()
    return Reply(200, text, media_type=media_type.encode("latin-1"))


def _unexpected(request: Request, error: Exception) -> Reply:
    log.error("%s %s failed", request.method, request.path[:256], exc_info=error)
    return unexpected()
