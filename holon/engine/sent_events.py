"""Events that handlers send: checked by what their blueprint declares, and told in the history of their job."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.domain.sending import SentEvent, line_of, line_of_refused
from holon.domain.texts import clipped
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError

log = logging.getLogger(__name__)

_NAMES_SHOWN = 20
# There may be many of one run, and each reason is a part of the history.
_LONGEST = 1024


class SentEvents:
    """Makes lines of history of the events that a handler has sent.

    Arguments:
        blueprints: which events they declare.
        contracts: where the schemas of these were compiled.
        strict: whether one that is not as declared is a failure of its handler. Else one of another type is told, and
            one whose payload is wrong is left out, and said to be.
    """

    def __init__(self, blueprints: Blueprints, contracts: Contracts, *, strict: bool) -> None:
        self._blueprints = blueprints
        self._contracts = contracts
        self._strict = strict

    def lines(self, job: Job, sent: Iterable[SentEvent], now: int) -> tuple[HistoryEvent, ...]:
        """What the history of a job says of the events that a handler has sent.

        Raises:
            BlueprintError: (EVENT_INVALID) one is not as its blueprint declares it, and the node is strict.
        """
        lines = []
        for event in sent:
            why = self._wrong(job, event)
            if not why:
                lines.append(line_of(event, job.current_state, now))
                continue
            if self._strict:
                raise BlueprintError(why, code="EVENT_INVALID")
            log.warning(
                "job %s: state %s: the event is left out: %s",
                job.id,
                job.current_state,
                why,
                extra={"job_id": job.id},
            )
            lines.append(line_of_refused(event, why, job.current_state, now))
        return tuple(lines)

    def _wrong(self, job: Job, event: SentEvent) -> str:
        """What is wrong with an event; empty where nothing is."""
        declared = self._blueprints.events(job.blueprint)
        contract = declared.get(event.type)
        if contract is None:
            # Who declares none says nothing of them.
            if not (declared and self._strict):
                return ""
            known = ", ".join(list(declared)[:_NAMES_SHOWN])
            return (
                f"event {event.type!r} is not declared by blueprint {job.blueprint!r} ({known}); declare it by "
                f"event({event.type!r}, ...), or set STRICT_EVENT_VALIDATION=false"
            )
        found = self._contracts.violations(contract, event.payload, "payload")
        if not found:
            return ""
        reasons = "; ".join(f"{one.field} {one.reason}" for one in found)
        return clipped(
            f"event {event.type!r} of blueprint {job.blueprint!r} does not match its declaration: {reasons}", _LONGEST
        )
