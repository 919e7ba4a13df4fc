"""The application service of jobs: what clients may ask, whatever door they came through."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from itertools import chain

from holon.domain.blueprint import Blueprint
from holon.domain.client import SCHEDULER, Client
from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Status
from holon.domain.progress import passed_by, percent_of
from holon.domain.task import task_id
from holon.domain.webhook import Receivers
from holon.engine.approvals import Approvals
from holon.engine.blueprints import Blueprints, Found
from holon.engine.children.listing import PartsListed
from holon.engine.contracts import Contracts
from holon.engine.creations import Creations, Made
from holon.engine.dispatcher import Dispatcher
from holon.engine.fusing import Fusing
from holon.engine.inputs import Inputs
from holon.engine.job_errors import inbox_full, not_found, terminated
from holon.engine.lines import page_of_lines
from holon.engine.making import Making
from holon.engine.needs import Needs
from holon.engine.page_tokens import PageTokens
from holon.engine.paging import DEFAULT_PAGE, size_of_page
from holon.engine.quotas import used_up
from holon.engine.records import Records
from holon.engine.repeats import Repeats, reused
from holon.engine.requests import (
    Accepted,
    Creating,
    Listing,
    check_reason,
    filter_of,
)
from holon.engine.signals import Signals
from holon.engine.waits import last_said, of_time
from holon.errors import Aborted, HolonError, InvalidArgument, NotFound, invalid
from holon.ports import Appended, Creation, JobRecord, NewJob, Storage
from holon.telemetry.events import Telemetry
from holon.telemetry.tracing import Span
from holon.turns import one_by_one

log = logging.getLogger(__name__)

# A shorter prefix of a job's id could be that of every job of several minutes.
SHORTEST_PREFIX = 10
MOST_IDS = 10
_PREFIX = re.compile("[0-9]{1,5}-[0-9a-f]{1,32}")


class Jobs:
    """Creates, shows and cancels jobs, each for those who may see it (`Client.sees`).

    An unknown job and a foreign one look the same: NotFound, JOB_NOT_FOUND. Every method raises StoreUnavailable when
    the store is away; creating may be repeated with its request id, cancelling anyway.

    Attributes:
        approvals: takes people's decisions to them.
        signals: takes signals to them.
        parts: lists those that are parts of one.
        receivers: who may be told of a job's end.
        max_transitions: how many changes of state a job may make at most.
    """

    parts: PartsListed

    def __init__(
        self,
        store: Storage,
        blueprints: Blueprints,
        contracts: Contracts,
        dispatcher: Dispatcher,
        fusing: Fusing,
        max_payload: int,
        telemetry: Telemetry,
        records: Records,
        receivers: Receivers,
        max_transitions: int,
        pages: PageTokens,
        needs: Needs,
    ) -> None:
        self._store = store
        self._pages = pages
        self._needs = needs
        self._blueprints = blueprints
        self._dispatcher = dispatcher
        inputs = Inputs(contracts, max_payload)
        self._making = Making(store, inputs, telemetry, receivers, max_transitions)
        self._telemetry = telemetry
        self._records = records
        self.receivers = receivers
        self.max_transitions = max_transitions
        self._creations = Creations(store, dispatcher, fusing, telemetry)
        self.approvals = Approvals(store, records, max_payload)
        self.signals = Signals(store, records)
        self._repeats = Repeats(store, records, blueprints, max_payload)

    def new_id(self, client: Client, asked: Creating) -> str:
        """The id of the job that is to be made by this; see `Making.new_id`."""
        return self._making.new_id(client, asked)

    async def create(self, client: Client, asked: Creating) -> Accepted:
        """Create a job of a client's; it is durable when this returns.

        A repeat is answered with the job that is there, whatever became of its blueprint.

        Raises:
            QuotaExceeded: (QUOTA_EXCEEDED) the client has created as many as it may in a calendar month.
            NotFound: (BLUEPRINT_NOT_FOUND) clients cannot start this blueprint.
            InvalidArgument: (INPUT_INVALID) `initial_data` does not fit the blueprint's contract; details name fields.
            AlreadyExists: (REQUEST_ID_REUSED) the request id was used for something else.
            Aborted: the note that was to be written with it has another version.
        """
        try:
            blueprint, contract = self._blueprints.for_clients(asked.blueprint)
            new, span = self._making.new(client, asked, blueprint, contract)
        except HolonError as error:
            outcome = await self._repeats.instead_of(error, client, asked)
        else:
            try:
                refusal = await self._making.inputs.check([(blueprint, new.job.initial_data)])
                made = refusal[0] or await self._creations.write(new)
            finally:
                span.end()
            if isinstance(made, HolonError):
                outcome = await self._repeats.instead_of(made, client, asked)
            else:
                outcome = self._outcome(new, asked, made)
        if isinstance(outcome, HolonError):
            raise outcome
        return outcome

    async def made_of_gone(self, client: Client, asked: Creating) -> Accepted | None:
        """The job that an earlier call made which asked for the same, of any blueprint that clients cannot start now.

        None: there is none.

        Raises:
            AlreadyExists: (REQUEST_ID_REUSED) the request id was used for something else.
        """
        return await self._repeats.find(client, asked, any_gone=True)

    async def create_all(
        self, client: Client, asked: Sequence[Creating], found: Found | None = None
    ) -> list[Accepted | HolonError]:
        """Create jobs of a client's, together; a refused one leaves the others alone.

        Arguments:
            found: finds what they are of; None: what clients can start.
        Returns:
            for each, in their order, the job, or why it was refused, as `create` raises it.
        """
        made = await self._all(client, asked, found or self._blueprints.for_clients)
        refused = [(at, one) for at, one in enumerate(made) if isinstance(one, NotFound | InvalidArgument)]
        instead = await asyncio.gather(*(self._repeats.instead_of(one, client, asked[at]) for at, one in refused))
        for (at, _), outcome in zip(refused, instead, strict=True):
            made[at] = outcome
        return made

    async def create_for_parent(self, parent: Client, asked: Sequence[Creating]) -> list[Accepted | HolonError]:
        """The same for the holon's parent, of any blueprints that are not internal."""
        return await self._all(parent, asked, self._blueprints.for_parents)

    async def create_for_schedule(self, scheduler: Client, asked: Creating) -> Accepted | HolonError:
        """The same for a schedule, one job of any blueprint."""
        return (await self._all(scheduler, (asked,), self._blueprints.for_jobs))[0]

    def check_for_schedule(self, asked: Creating) -> None:
        """Raise what a schedule would be refused for, whenever it asks for this; see `create`. May block."""
        self._making.inputs.check_now(asked, *self._blueprints.for_jobs(asked.blueprint))

    async def _all(self, client: Client, asked: Sequence[Creating], found: Found) -> list[Accepted | HolonError]:
        spans: list[Span] = []

        def try_one(one: Creating) -> tuple[NewJob, Blueprint] | HolonError:
            try:
                blueprint, contract = found(one.blueprint)
                new, span = self._making.new(client, one, blueprint, contract)
            except HolonError as error:
                return error
            spans.append(span)
            return new, blueprint

        try:
            # Each may have as much as a call can carry, and all of it is looked at.
            tried = await one_by_one(try_one, asked)
            read = [one for one in tried if not isinstance(one, HolonError)]
            refusals = await self._making.inputs.check([(blueprint, new.job.initial_data) for new, blueprint in read])
            checked = iter(refusals)
            good = [one if isinstance(one, HolonError) else next(checked) or one[0] for one in tried]
            made = iter(await self._creations.write_all([one for one in good if isinstance(one, NewJob)]))
        finally:
            for span in spans:
                span.end()
        return [
            one if isinstance(one, HolonError) else self._outcome(one, wanted, next(made))
            for one, wanted in zip(good, asked, strict=True)
        ]

    def _outcome(self, new: NewJob, asked: Creating, made: Made | HolonError) -> Accepted | HolonError:
        """What became of a new job, or why it is none, as `create` raises it."""
        if isinstance(made, HolonError):
            return made
        creation = made.creation
        if creation is Creation.CREATED:
            self._telemetry.created(new.job)
        elif creation is Creation.OUTDATED:
            return Aborted("another node has changed what was to be stored with the job")
        elif creation is Creation.CONFLICT:
            return reused(asked)
        elif creation is Creation.OVER_QUOTA and new.quota is not None:
            return used_up(new.quota, new.job.created_at)
        return Accepted(made.job_id, creation is Creation.EXISTING, made.noted)

    async def get(self, client: Client, job_id: str) -> JobRecord:
        """One job that a client may see."""
        return await self._records.job_of(job_id, client.sees)

    async def ids(self, client: Client, prefix: str) -> tuple[Sequence[str], bool]:
        """The ids of jobs that a client may see and that begin with a prefix: in order, at most `MOST_IDS`.

        Returns:
            the ids, and whether there are more.
        Raises:
            InvalidArgument: the prefix is not how an id begins, or is shorter than `SHORTEST_PREFIX`.
        """
        if len(prefix) < SHORTEST_PREFIX or not _PREFIX.fullmatch(prefix):
            raise invalid(
                "id_prefix", f"is {prefix[:40]!r}; give at least the first {SHORTEST_PREFIX} characters of a job id"
            )
        owners = {client.name, SCHEDULER} if client.sees(SCHEDULER) else {client.name}
        found = [await self._records.job_ids(owner, prefix, MOST_IDS + 1) for owner in owners]
        ids = sorted(chain.from_iterable(found))
        return ids[:MOST_IDS], len(ids) > MOST_IDS

    def progress_message(self, record: JobRecord) -> str:
        """What the job last said of its progress, or why it waits."""
        if record.queued_need is not None:
            return self._dispatcher.why(record.queued_need)
        retries = record.job.status is Status.WAITING_FOR_RETRY
        if standing := of_time(record, self._blueprints.not_loaded(record.job) if retries else ""):
            return standing
        if record.waits and record.branch_need is not None:
            # That others have no room at the moment is nothing to speak of, while some branches are being done.
            return "" if self._dispatcher.somebody_can(record.branch_need) else self._dispatcher.why(record.branch_need)
        return last_said(record)

    async def progress_message_of_one(self, record: JobRecord) -> str:
        """The same of a job that is read alone. If every worker refuses its task's params, it names the field."""
        need, waiting, message = record.queued_need, record.job.waiting, self.progress_message(record)
        if need is None or waiting is None or not self._dispatcher.refused_by(need):
            return message
        task = await self._store.task(task_id(record.job.id, waiting.step, 0))
        # Of a fan-out, another branch may be the one that waits.
        if task is None or task.need != need:
            return message
        wrong = self._needs.misfit(need, task.params)
        return f"{message}: {wrong.field} {wrong.reason}"

    def percent(self, record: JobRecord) -> float | None:
        """How far a job is by its states, as its holon's parent is told; clients see how far its last dispatch is."""
        return percent_of(record.job, self._blueprints.get(record.job.blueprint), record.progress)

    def passed(self, record: JobRecord, lines: Sequence[HistoryEvent]) -> float:
        """How far a job that is not over was at most, in percent, by its history: it may have gone back since."""
        blueprint = self._blueprints.get(record.job.blueprint)
        return 0.0 if blueprint is None else passed_by(blueprint, lines)

    async def list(self, owner: str, listing: Listing) -> tuple[Sequence[JobRecord], str]:
        """A page of an owner's jobs, newest first, and the token of the next page (empty: that was all).

        Raises:
            InvalidArgument: a page size, page token or time that is none.
        """
        size = size_of_page(listing.page_size)
        which = filter_of(owner, listing)
        if which is None:
            return (), ""
        if listing.parent_job_id:
            return await self.parts.page(listing.parent_job_id, which, listing.page_token, size, listing.fields)
        return await self._records.jobs(which, listing.page_token, size, listing.fields)

    async def cancel(
        self,
        client: Client,
        job_id: str,
        *,
        by: str = "",
        insist: bool = True,
        request_id: str | None = None,
        reason: str = "",
    ) -> JobRecord:
        """Ask a job to end. Answers with the job as it was.

        Arguments:
            by: who asks; the client where nobody is named.
            insist: whether one that cleans up after an earlier cancel is ended at once; else that goes on.
            request_id: names this wish: a repeat changes nothing, and is answered though the job is over; None: a
                repeat is another cancel.
            reason: what they say of it, for people and the history; empty: nothing.
        Raises:
            InvalidArgument: the reason is too long.
            FailedPrecondition: (JOB_TERMINATED) it is over.
        """
        check_reason(reason)
        record = await self.get(client, job_id)
        over = record.job.status.terminal
        if over and request_id is None:
            raise terminated(job_id, record.job.status)
        if record.job.cancelling and not insist:
            return record
        # A cancel that arrives while the job cleans up after an earlier one ends it at once.
        asked = "" if request_id is None else f"ask-{request_id}"
        key = asked if over else f"cancel-{int(record.job.cancelling)}"
        appended = await self._store.append(job_id, CancelRequested(by or client.name, insist, reason), key, asked)
        if appended is Appended.OVER or (over and appended is Appended.UNKNOWN):
            raise terminated(job_id, (await self.get(client, job_id)).job.status)
        if appended is Appended.UNKNOWN:
            raise not_found(job_id)
        if appended is Appended.FULL:
            raise inbox_full(job_id)
        return record

    async def history(
        self, client: Client, job_id: str, page_size: int = DEFAULT_PAGE, page_token: str = "", after: int = 0
    ) -> tuple[Sequence[tuple[int, HistoryEvent]], str]:
        """A page of a job's history, oldest first, with sequence numbers, and the token of the next page.

        It has as many lines as were asked for, or fewer where they are large together.

        Arguments:
            after: the line that the first page goes on after; 0 is the beginning.
        Raises:
            InvalidArgument: a page size or page token that is none.
        """
        size = size_of_page(page_size)
        tokens = self._pages.of("history", job_id)
        start = tokens.place(page_token) or after
        record = await self.get(client, job_id)

        async def read(last: tuple[int, HistoryEvent] | None, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
            return await self._records.history(job_id, start if last is None else last[0], limit, record.sequence)

        page, more = await page_of_lines(read, lambda line: line[1], size)
        return page, tokens.token(page[-1][0]) if more else ""
