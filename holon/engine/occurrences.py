"""Events of tasks: from the workers that hold them into their jobs, each once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from holon.domain.events import Occurred, TaskEvent
from holon.domain.task import step_of
from holon.engine.contracts import Contracts
from holon.engine.job_errors import not_held
from holon.engine.payloads import decode
from holon.engine.session import Session
from holon.errors import HolonError, InvalidArgument, ResourceExhausted, StoreUnavailable, Unavailable, Violation
from holon.ports import Appended, Offer, Steps
from holon.turns import one_by_one

EVENT_INVALID = "EVENT_INVALID"
RETRY_S = 1.0
_MOVED_S = 0.1
_NAMES_SHOWN = 20


class Occurrences:
    """Puts events into the inboxes of jobs.

    Arguments:
        contracts: where the schemas of the events that workers declare were compiled.
        strict: whether a skill that declares events may send no others.
    """

    def __init__(self, store: Steps, contracts: Contracts, *, strict: bool) -> None:
        self._store = store
        self._contracts = contracts
        self._strict = strict

    def __repr__(self) -> str:
        return f"Occurrences({self._store!r})"

    async def take(self, session: Session, events: Sequence[Occurred]) -> Mapping[str, HolonError | None]:
        """Put events into their jobs, in order; a repeat of one is put in once.

        Returns:
            by the ids of the events, why they were not taken; None of those that were. One whose error says
            `retry_after` is to be sent again.
        """
        # Each may be as dear to check as one value can be, and there may be hundreds.
        refused = await one_by_one(lambda one: self._unfit(session, one), events)
        found = zip(events, refused, strict=True)
        answers = await asyncio.gather(*(self._put(session, one, why) for one, why in found))
        return {one.event_id: answer for one, answer in zip(events, answers, strict=True)}

    async def _put(self, session: Session, event: Occurred, unfit: HolonError | None) -> HolonError | None:
        offer = session.leases.get(event.lease_id)
        if offer is None and session.moved_to and event.lease_id in session.past:
            # It crossed the Welcome of the stream that has taken the lease over: on that it may be told.
            return Unavailable(
                "a newer stream of this worker has replaced this one; send the event again on the new stream",
                code="SESSION_REPLACED",
                retry_after=_MOVED_S,
            )
        if offer is None or offer.task_id != event.task_id:
            return not_held(event.task_id, event.lease_id)
        if unfit is not None:
            return unfit
        try:
            appended = await self._store.append(offer.job_id, _inbox_event(event, offer), _key(event))
        except StoreUnavailable as error:
            return StoreUnavailable(
                "the node's store is not available; send the event again", retry_after=error.again_after
            )
        if appended is Appended.FULL:
            return ResourceExhausted(
                f"the inbox of job {offer.job_id} is full; send the event again later",
                code="INBOX_FULL",
                retry_after=RETRY_S,
            )
        # Of a job that is over nobody waits to hear anything: it was cancelled, or goes without this task.
        return None

    def _unfit(self, session: Session, event: Occurred) -> HolonError | None:
        """Why nobody could do anything with an event; None: it is fit, or of a task that is not held."""
        offer = session.leases.get(event.lease_id)
        if offer is None or offer.task_id != event.task_id:
            return None
        try:
            # Who reads it can do nothing but read it: its job would stand still with what cannot be read.
            payload = decode(event.payload, "payload")
        except HolonError as error:
            return error
        return self._refused(session, event, offer, payload)

    def _refused(self, session: Session, event: Occurred, offer: Offer, payload: Any) -> HolonError | None:
        """Why an event is not as its skill declares it; None: it is, or the skill declares none."""
        declared = session.events_of(offer)
        if not declared:
            return None
        contract = declared.get(event.type)
        if contract is None:
            # What a holon passes on is not its own.
            if session.is_holon or not self._strict:
                return None
            known = ", ".join(list(declared)[:_NAMES_SHOWN])
            reason = f"is {event.type!r}, but skill {offer.skill!r} declares only {known}"
            return InvalidArgument(f"type {reason}", code=EVENT_INVALID, details=[Violation("type", reason)])
        found = self._contracts.violations(contract, {} if payload is None else payload, "payload")
        if not found:
            return None
        message = f"event {event.type!r} violates the schema that skill {offer.skill!r} declares: "
        return InvalidArgument(f"{message}{found[0].field} {found[0].reason}", code=EVENT_INVALID, details=found)


def _inbox_event(event: Occurred, offer: Offer) -> TaskEvent:
    return TaskEvent(
        step_of(event.task_id),
        event.task_id,
        event.event_id,
        event.type,
        event.payload,
        offer.worker_id,
        event.time,
        event.holon_ids,
        event.job_ids,
        event.origin_worker_id,
    )


def _key(event: Occurred) -> str:
    """What a repeat of an event is known by: two workers may give events the same id."""
    text = f"{event.task_id} {event.event_id}"
    return f"event-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"
