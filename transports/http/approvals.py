"""The HTTP door: the route by which people's decisions come in."""

from __future__ import annotations

from typing import NoReturn

from holon.engine.approvals import Approvals, Deciding
from holon.engine.requests import request_id_of
from holon.errors import Unauthenticated
from holon.security.approvals import HOLDER, made_of, question_of
from holon.security.clients import Clients
from holon.telemetry.audit import audited, note
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import APPROVAL_FIELDS, IDEMPOTENCY_KEY
from holon.transports.http.request import NOBODY, Request
from holon.transports.http.strict_json import read_object, text_in

_KNOWN = frozenset(APPROVAL_FIELDS)
_NONE: frozenset[str] = frozenset()
_ACT = "approval_resolved"


class ApprovalRoutes:
    """Takes decisions; raises what `Approvals` raises, and InvalidArgument for what it cannot read.

    Arguments:
        clients: those whose tokens approval tokens are made of.
    """

    def __init__(self, approvals: Approvals, clients: Clients) -> None:
        self._approvals = approvals
        self._clients = clients

    async def resolve(self, request: Request) -> Reply:
        """Take a decision of the job's owner, or of who has the approval token of its question."""
        request.parameters(_NONE)
        asked = read_object(await request.body(), _KNOWN)
        given = Deciding(
            text_in(asked, "decision"),
            asked.get("data"),
            text_in(asked, "comment"),
            text_in(asked, "approval_id"),
            request_id_of(request.idempotency_key(), IDEMPOTENCY_KEY.name),
        )
        if token := text_in(asked, "approval_token"):
            await self._by_token(request, given, token)
        elif request.client is NOBODY:
            self._refuse(
                request,
                Unauthenticated("Missing X-Client-Token header, or approval_token in the body", code="TOKEN_INVALID"),
            )
        else:
            with audited(_ACT, request.by, lambda: request.named, decision=given.decision):
                await self._approvals.resolve(request.client, request.named, given)
        return Reply.of(200, {"status": "approval_received", "job_id": request.named})

    async def _by_token(self, request: Request, given: Deciding, token: str) -> None:
        def allowed(owner: str) -> bool:
            return made_of(token, self._clients.digests_of(owner))

        try:
            await self._approvals.resolve_by_right(request.named, given, question_of(token), allowed, by=HOLDER)
        except Unauthenticated as error:
            self._refuse(request, error)
        note(_ACT, request.by, on=request.named, decision=given.decision, right=HOLDER)

    def _refuse(self, request: Request, error: Unauthenticated) -> NoReturn:
        self._clients.refused.call(error, request.by, f"{request.method} {request.path}")
        raise error
