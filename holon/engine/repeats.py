"""Repeats: creations that were asked for before, where what is known now would refuse them."""

from __future__ import annotations

import sys

from holon.domain.client import Client
from holon.domain.costs import costing
from holon.engine.blueprints import Blueprints
from holon.engine.records import Records
from holon.engine.requests import (
    Accepted,
    Creating,
    digest_of,
    input_of,
    priority_of,
    request_id_of,
    timeout_ms,
    transitions_of,
)
from holon.errors import AlreadyExists, HolonError, InvalidArgument, TooLarge
from holon.ports import Storage


class Repeats:
    """Finds the jobs that earlier calls made, by the request ids of those.

    A job that is created asks the store for that with its creation. This is for those that cannot be: their blueprint,
    or its contract, may be another one since.

    Arguments:
        blueprints: those that there are now.
        max_payload: the most bytes that a job may be given.
    """

    def __init__(self, store: Storage, records: Records, blueprints: Blueprints, max_payload: int) -> None:
        self._blueprints = blueprints
        self._store = store
        self._records = records
        self._max_payload = max_payload

    def __repr__(self) -> str:
        return f"Repeats({self._store!r})"

    async def instead_of(self, refused: HolonError, client: Client, asked: Creating) -> Accepted | HolonError:
        """What a repeat is answered that would be refused as a new job: its job; or why it is refused."""
        try:
            return await self.find(client, asked) or refused
        except HolonError as error:
            return error

    async def find(self, client: Client, asked: Creating, *, any_gone: bool = False) -> Accepted | None:
        """The job that an earlier call made which asked for the same; None: there is none.

        Arguments:
            any_gone: whether it may be of any blueprint that clients cannot start now: the caller does not know what it
                was called. One that they can start has another path than theirs, and was not asked for.
        Raises:
            AlreadyExists: (REQUEST_ID_REUSED) that call asked for something else.
            StoreUnavailable: the store is away.
        """
        try:
            request_id = request_id_of(asked.request_id)
            if request_id is None:
                return None
            _, text = input_of(asked, self._max_payload)
            if not isinstance(asked.webhook_url, str | None):
                return None
            terms = (
                timeout_ms("dispatch_timeout", asked.dispatch_timeout),
                timeout_ms("result_timeout", asked.result_timeout),
                costing("budget", asked.budget),
            )
            priority_of(asked.default_priority)
            transitions_of(asked.max_transitions, sys.maxsize)
        except (InvalidArgument, TooLarge):
            # No job was ever made of what cannot be read.
            return None
        made = await self._store.made(client.name, request_id)
        if made is None:
            return None
        job_id, digest = made
        blueprint = asked.blueprint
        if any_gone:
            record = await self._records.job(job_id)
            if record is None or self._blueprints.clients_start(record.job.blueprint):
                return None
            blueprint = record.job.blueprint
        if digest_of(asked, text, blueprint, *terms) != digest:
            raise reused(asked)
        return Accepted(job_id, existing=True)


def reused(asked: Creating) -> AlreadyExists:
    """The error of a request id that was used for something else."""
    return AlreadyExists(
        f"request id {asked.request_id!r} was used for another job; use a new one", code="REQUEST_ID_REUSED"
    )
