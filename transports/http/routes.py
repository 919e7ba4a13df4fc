"""The HTTP door: what each route does: it translates to the service of jobs, and has no logic of its own."""

from __future__ import annotations

from holon.domain.job import CARRIED
from holon.domain.policy import allowing
from holon.domain.value import replace
from holon.engine.feeds import Seen
from holon.engine.jobs import Jobs
from holon.engine.requests import Creating, Listing, request_id_of, statuses_of
from holon.engine.signals import Sending
from holon.engine.watching import Watching
from holon.errors import AlreadyExists, HolonError, InvalidArgument, TooLarge
from holon.security.approvals import approval_token
from holon.telemetry.audit import audited
from holon.transports.http.asgi import Packing, Reply
from holon.transports.http.inputs import (
    CANCEL_FIELDS,
    CREATE_FIELDS,
    IDEMPOTENCY_KEY,
    MAX_WAIT_S,
    OF_CREATE,
    OF_GET,
    OF_LIST,
    OF_PAGES,
    SIGNAL_FIELDS,
    create_fields,
    names,
    repeatable,
)
from holon.transports.http.reading import page_size, seconds, time
from holon.transports.http.request import Request
from holon.transports.http.shapes import LISTED_FIELDS, SHOWN_FIELDS, event_json, fields_of, job_json
from holon.transports.http.strict_json import read_object, text_in

_BODY_OF_CREATE = frozenset(CREATE_FIELDS)
_BODY_OF_CANCEL = frozenset(CANCEL_FIELDS)
_BODY_OF_SIGNAL = frozenset(SIGNAL_FIELDS)
_NONE: frozenset[str] = frozenset()
_CREATE = names(OF_CREATE)
_CREATE_REPEATABLE = repeatable(OF_CREATE)
_GET = names(OF_GET)
_GET_REPEATABLE = repeatable(OF_GET)
_PAGES = names(OF_PAGES) | {"limit"}
_LIST = names(OF_LIST) | {"limit"}
_LIST_REPEATABLE = repeatable(OF_LIST)
_CANCELLED = Reply.of(200, {"status": "cancellation_request_accepted"})


class JobRoutes:
    """The routes of jobs. Each raises what `Jobs` raises, and InvalidArgument for what it cannot read.

    Attributes:
        approvals: takes people's decisions to them.
        create_fields: what a job may be created with.
    """

    def __init__(self, jobs: Jobs, watching: Watching) -> None:
        self.approvals = jobs.approvals
        self.create_fields = create_fields(jobs.max_transitions, jobs.receivers)
        self._jobs = jobs
        self._watching = watching

    async def create(self, blueprint: str, request: Request) -> Reply:
        """Create a job of a blueprint; it is durable when this returns, and over where that was waited for in time."""
        wanted = request.parameters(_CREATE, _CREATE_REPEATABLE)
        fields, wait = fields_of(wanted.get("fields"), SHOWN_FIELDS), seconds(wanted, "wait", MAX_WAIT_S)
        creating = _creating(blueprint, await request.body(), request)
        if not wait:
            return _accepted((await self._jobs.create(request.client, creating)).job_id)
        creating = replace(creating, job_id=self._jobs.new_id(request.client, creating))
        expected = self._watching.expect(creating.job_id)
        try:
            job_id = (await self._jobs.create(request.client, creating)).job_id
            # One that was made by an earlier request has another id.
            mine = expected and job_id == creating.job_id
            return await self._over(request, job_id, wait, fields, expected=mine) or _accepted(job_id)
        finally:
            if expected:
                self._watching.expect_no_more(creating.job_id)

    async def repeat(self, request: Request) -> Reply | None:
        """Answer what may repeat a creation, by a path that no blueprint has now; None: it does not."""
        try:
            wanted = request.parameters(_CREATE, _CREATE_REPEATABLE)
            fields, wait = fields_of(wanted.get("fields"), SHOWN_FIELDS), seconds(wanted, "wait", MAX_WAIT_S)
            made = await self._jobs.made_of_gone(request.client, _creating("", await request.body(), request))
        except (InvalidArgument, TooLarge, AlreadyExists):
            # There is nothing at its path that this could be said of.
            return None
        if made is None:
            return None
        over = await self._over(request, made.job_id, wait, fields, expected=False) if wait else None
        return over or _accepted(made.job_id)

    async def get(self, request: Request) -> Reply:
        """Show one job: at once, or once it is over, or when that was waited for long enough.

        Raises:
            Unauthenticated: (TOKEN_INVALID) the client's token was taken back meanwhile.
        """
        asked = request.parameters(_GET, _GET_REPEATABLE)
        fields, wait = fields_of(asked.get("fields"), SHOWN_FIELDS), seconds(asked, "wait", MAX_WAIT_S)
        client, job_id = request.client, request.named
        record = await self._jobs.get(client, job_id)
        if wait and not record.job.status.terminal:
            # What handlers work on is large, and is not kept meanwhile.
            del record
            if request.unread:
                await request.body()
            if over := await self._until_over(request, job_id, wait, fields):
                return over
            record = await self._jobs.get(client, job_id)
        shown = job_json(record, await self._jobs.progress_message_of_one(record), fields)
        if (question := shown.get("approval")) is None or request.credential is None:
            return Reply.of(200, shown)
        question["approval_token"] = approval_token(request.credential.digest, question["approval_id"])
        return Reply.of(200, shown, packing=Packing.NEVER)

    async def _over(
        self, request: Request, job_id: str, wait: float, fields: tuple[str, ...], *, expected: bool
    ) -> Reply | None:
        """The answer that a job is over, once it is; None when it is not in time, or when that cannot be told.

        The job exists whatever is the matter with the wait, and its client must learn its id.
        """
        try:
            return await self._until_over(request, job_id, wait, fields, expected=expected)
        except HolonError:
            return None

    async def _until_over(
        self, request: Request, job_id: str, wait: float, fields: tuple[str, ...], *, expected: bool = False
    ) -> Reply | None:
        """The answer that a job is over, once it is; None when it is not in time."""
        seen: Seen | None = None
        async with request.waiting(wait):
            seen = await self._watching.until_over(request.client, job_id, expected=expected)
        if seen is None:
            return None
        record = seen.record
        if not CARRIED.isdisjoint(fields):
            # Whoever waits keeps nothing of what handlers work on.
            record = await self._jobs.get(request.client, job_id)
        return Reply.of(200, job_json(record, seen.message, fields))

    async def list(self, request: Request) -> Reply:
        """Show a page of jobs, newest first."""
        asked = request.parameters(_LIST, _LIST_REPEATABLE)
        fields = fields_of(asked.get("fields"), LISTED_FIELDS)
        statuses = statuses_of(asked["status"].split(","), "status") if "status" in asked else ()
        listing = Listing(
            statuses,
            asked.get("blueprint"),
            page_size(asked),
            asked.get("page_token", ""),
            time(asked, "created_after"),
            time(asked, "created_before"),
            parent_job_id=asked.get("parent_job_id", ""),
            fields=fields,
        )
        records, token = await self._jobs.list(request.client.name, listing)
        shown = [job_json(record, self._jobs.progress_message(record), fields) for record in records]
        return Reply.of(200, {"jobs": shown, "next_page_token": token})

    async def cancel(self, request: Request) -> Reply:
        """Ask a job to end."""
        request.parameters(_NONE)
        body = await request.body()
        reason = text_in(read_object(body, _BODY_OF_CANCEL), "reason") if body else ""
        with audited("job_cancelled", request.by, lambda: request.named):
            request_id = request_id_of(request.idempotency_key(), IDEMPOTENCY_KEY.name)
            await self._jobs.cancel(request.client, request.named, request_id=request_id, reason=reason)
        return _CANCELLED

    async def signal(self, request: Request) -> Reply:
        """Tell a job what has happened outside."""
        request.parameters(_NONE)
        asked = read_object(await request.body(), _BODY_OF_SIGNAL)
        request_id = request_id_of(request.idempotency_key(), IDEMPOTENCY_KEY.name)
        given = Sending(text_in(asked, "name"), asked.get("data"), request_id, text_in(asked, "to_job_id"))
        with audited("signal_sent", request.by, lambda: request.named, signal=given.name):
            await self._jobs.signals.send(request.client, request.named, given)
        return Reply.of(200, {"status": "signal_received", "job_id": request.named})

    async def history(self, request: Request) -> Reply:
        """Show a page of a job's history, oldest first."""
        asked = request.parameters(_PAGES)
        job_id, token = request.named, asked.get("page_token", "")
        events, token = await self._jobs.history(request.client, job_id, page_size(asked), token)
        shown = [event_json(job_id, sequence, event) for sequence, event in events]
        return Reply.of(200, {"events": shown, "next_page_token": token})


def _creating(blueprint: str, body: bytes, request: Request) -> Creating:
    """What a body asks for, and the headers."""
    asked = read_object(body, _BODY_OF_CREATE)
    return Creating(
        blueprint,
        asked.get("initial_data", {}),
        request_id_of(request.idempotency_key(), IDEMPOTENCY_KEY.name),
        asked.get("dispatch_timeout"),
        asked.get("result_timeout"),
        request.trace(),
        allowed_skills=allowing("allowed_skills", asked.get("allowed_skills")),
        budget=asked.get("budget"),
        webhook_url=asked.get("webhook_url"),
        default_priority=asked.get("priority"),
        max_transitions=asked.get("max_transitions"),
    )


def _accepted(job_id: str) -> Reply:
    return Reply(202, b'{"status":"accepted","job_id":"%b"}' % job_id.encode())
