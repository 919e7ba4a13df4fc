"""One partition: jobs, their claims and their steps, as calls of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holon.domain.events import InboxEvent
from holon.domain.task import Outcome, task_id
from holon.ports import (
    Appended,
    Claim,
    Committed,
    Created,
    Creation,
    NewJob,
    Seat,
    Step,
)
from holon.storage.outbox import too_much_waits
from holon.storage.redis import answers, arguments
from holon.storage.redis.part import Part
from holon.storage.redis.quotas import Allowances

# What `commit` answers where a lost claim is 1.
_OVER_BUDGET = 2


class StepCalls(Part):
    """As `Storage`, of the jobs that are here."""

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        assert self._quotas is not None  # noqa: S101  the store has said where
        with self._asking(want) as n, self._places(seats) as places:

            async def call(allowances: Allowances) -> Any:
                given = arguments.new_jobs_arguments(items, self._settings.max_state_bytes, self._seal, allowances)
                return await self.link.call("create_jobs", *given, n, *places, new_work=True)

            answer = await self._quotas.create(items, call)
            if answer == answers.ALL_CREATED:
                return Created(
                    tuple((item.job.id, Creation.CREATED) for item in items), (), self._leased(([], []), seats)
                )
            jobs, *rest = answer
            if not rest:
                raise too_much_waits(jobs)
            claims, leased = rest
            return Created(answers.created_of(jobs), self._claims(claims), self._leased(leased, seats))

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        if not (found := await self.link.read("request", owner, request_id)):
            return None
        job_id, digest = found
        return job_id.decode(), digest

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        want: int,
        request_key: str = "",
        most: int | None = None,
    ) -> tuple[Appended, Sequence[Claim]]:
        given = arguments.event_arguments(job_id, event, self._seal)
        full = self._settings.max_inbox if most is None else most
        with self._asking(want) as n:
            what, claims = await self.link.call("append", job_id, dedup_key, request_key, *given, full, n)
            return Appended(what.decode()), self._claims(claims)

    async def claim(self, want: int, *, alone: bool = False) -> Sequence[Claim]:
        """As `Storage.claim`; `alone` says that this node has claimed nothing anywhere, and may be given a suspect."""
        with self._asking(want, alone=alone) as n:
            return self._claims(await self.link.call("claim", n, "1" if alone else ""))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("keep", claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("release", claims)

    async def _pairs(self, name: str, claims: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        given = [part for pair in claims for part in pair]
        ours = tuple(map(bool, await self.link.call(name, len(claims), *given)))
        for (job_id, claim_id), still in zip(claims, ours, strict=True):
            self._held(job_id, claim_id, still=still and name == "keep")
        return ours

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        chunks = await arguments.packed_chunks(step.fan_out, self._seal) if step.fan_out is not None else ()
        decided = arguments.step_arguments(step, self._settings.max_state_bytes, self._seal, chunks=chunks)
        given = step.job.id, step.claim_id, *decided
        with self._asking(want) as n, self._places(seats) as places:
            conflict, cancel_pending, events, leased, claims = await self.link.call("commit", *given, n, *places)
            if conflict == _OVER_BUDGET:
                return Committed(over_budget=True)
            still = not conflict and step.keep and not step.job.status.terminal
            self._held(step.job.id, step.claim_id, still=still)
            return Committed(
                bool(conflict),
                bool(cancel_pending),
                answers.events_of(step.job.id, events, self._seal),
                self._leased(leased, seats),
                self._claims(claims),
            )

    async def spawn(self, job_id: str, step: int) -> None:
        await self.link.call("spawn", job_id, step)

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        found: list[tuple[str, Outcome]] = []
        start = 0
        while True:
            page, start = await self.link.read("branches", job_id, step, start)
            for at in range(0, len(page), 2):
                name = task_id(job_id, step, page[at])
                found.append((name, answers.outcome_of(name, page[at + 1], self._seal)))
            if not start:
                return found
