"""Results of workers: checked, answered with a retry or not, and applied under their lease."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holon.domain.retries import retry_after
from holon.domain.task import CONTRACT_VIOLATION, FAILURE, LIMIT_EXCEEDED, SUCCESS, Outcome, RetryPolicy
from holon.engine.contracts import Contracts
from holon.engine.dispatcher import Dispatcher, Session
from holon.engine.payloads import decode
from holon.engine.slots import Slots
from holon.errors import InvalidArgument, StoreUnavailable, TooLarge
from holon.ports import Completed, Result, Storage, Superseded

log = logging.getLogger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Reported:
    """A result as a worker sent it; with `broken` it cannot be used, and `outcome` is the failure in its place."""

    task_id: str
    lease_id: str
    outcome: Outcome
    took: int | None = None
    broken: InvalidArgument | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker is told of its result; exactly one of the three.

    `superseded`: it was not applied, and why. `invalid`: it broke its contract or a limit, which ended the attempt.
    `again_after`: seconds after which it is to be sent again. None of them: it is committed.
    """

    task_id: str
    lease_id: str
    superseded: Superseded | None = None
    invalid: InvalidArgument | None = None
    again_after: float | None = None


class Results:
    """Takes results in, whole batches of one session at a time.

    Arguments:
        max_payload: the most bytes that a result's data may have.
    """

    def __init__(
        self, store: Storage, slots: Slots, dispatcher: Dispatcher, contracts: Contracts, max_payload: int
    ) -> None:
        self._store = store
        self._slots = slots
        self._dispatcher = dispatcher
        self._contracts = contracts
        self._max_payload = max_payload

    async def complete(
        self, session: Session, reported: Sequence[Reported], output_contracts: Mapping[str, str]
    ) -> Sequence[Answer]:
        """Apply results of one session; each is its worker's final word about its lease.

        Arguments:
            output_contracts: by skill, the contract that a success of this session must keep.
        """
        results, invalid = [], {}
        for one in reported:
            outcome, error = self._checked(session, one, output_contracts)
            if error is not None:
                invalid[one.lease_id] = error
            results.append(await self._result(session, one, outcome))
        freed = sum(one.lease_id in session.leases for one in reported)
        seats = self._dispatcher.seats_at(session, session.free + freed)
        reply: Completed | None = None
        try:
            with self._slots.wanting(len(results)) as wanted:
                reply = await self._store.complete(results, session.worker_id, wanted.n, seats)
                wanted.claims = reply.claims
        except StoreUnavailable as error:
            log.warning("results of %s were not stored: %s", session.worker_id, error.message)
        finally:
            if reply is not None:
                for one in reported:
                    self._dispatcher.freed(session, one.lease_id)
            self._dispatcher.settle(seats, reply.leased if reply is not None else None)
        if reply is None:
            return [Answer(one.task_id, one.lease_id, again_after=RETRY_S) for one in reported]
        return [
            Answer(one.task_id, one.lease_id, superseded, None if superseded else invalid.get(one.lease_id))
            for one, superseded in zip(reported, reply.verdicts, strict=True)
        ]

    def _checked(
        self, session: Session, one: Reported, output_contracts: Mapping[str, str]
    ) -> tuple[Outcome, InvalidArgument | None]:
        """The outcome to apply: the worker's own, or a failure in its place when it broke a contract or a limit."""
        outcome = one.outcome
        if one.broken is not None:
            return outcome, one.broken
        try:
            data = self._decoded(outcome.data, "the data of the result")
            if outcome.error is not None:
                self._decoded(outcome.error.details, "the details of the result's error")
        except InvalidArgument as error:
            return _refused(session, LIMIT_EXCEEDED if isinstance(error, TooLarge) else CONTRACT_VIOLATION, error)
        if outcome.status == FAILURE:
            return outcome, None
        if data is not None and not isinstance(data, dict):
            broken = InvalidArgument("the data of a result must be a JSON object", code="SCHEMA_MISMATCH")
            return _refused(session, CONTRACT_VIOLATION, broken)
        offer = session.leases.get(one.lease_id)
        contract = output_contracts.get(offer.skill, "") if offer is not None else ""
        if outcome.status == SUCCESS and contract:
            violations = self._contracts.violations(contract, {} if data is None else data, "data")
            if violations:
                message = f"the result breaks the skill's output schema: {violations[0].field} {violations[0].reason}"
                broken = InvalidArgument(message, code="SCHEMA_MISMATCH", details=violations)
                return _refused(session, CONTRACT_VIOLATION, broken)
        return outcome, None

    def _decoded(self, text: bytes, what: str) -> Any:
        if len(text) > self._max_payload:
            raise TooLarge(f"{what} has {len(text)} bytes, over the limit of {self._max_payload}")
        return decode(text, what)

    async def _result(self, session: Session, one: Reported, outcome: Outcome) -> Result:
        if outcome.status != FAILURE:
            return Result(one.task_id, one.lease_id, outcome, None, one.took)
        policy, generation = await self._policy(session, one)
        jitter = random.random()  # noqa: S311  it hides nothing
        return Result(
            one.task_id, one.lease_id, outcome, retry_after(outcome, generation - 1, policy, jitter), one.took
        )

    async def _policy(self, session: Session, one: Reported) -> tuple[RetryPolicy, int]:
        offer = session.leases.get(one.lease_id)
        if offer is not None:
            return offer.retry, offer.generation
        task = await self._store.task(one.task_id)
        return (task.retry, task.generation) if task is not None else (RetryPolicy(), 1)


def _refused(session: Session, code: str, error: InvalidArgument) -> tuple[Outcome, InvalidArgument]:
    return Outcome.failed(code, error.message, session.worker_id), error
