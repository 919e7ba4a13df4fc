"""One partition: sessions, the leases that they get, what is due, and the backlog, as calls of operations."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.ports import (
    Completed,
    Fired,
    Leased,
    Opened,
    Opening,
    Result,
    Seat,
    Superseded,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.redis import answers, arguments
from holon.storage.redis.arguments import Argument
from holon.storage.redis.part import Part
from holon.stores.records import NewerRecord, encode_need


class LeaseCalls(Part):
    """As `Storage`, of the tasks that are here."""

    async def open_session(self, opening: Opening, order: int | None) -> tuple[Opened, int | None]:
        """As `Storage.open_session`, in the order that another partition gave; answers with the order too."""
        given = arguments.opening_arguments(opening, order)
        return answers.opened_of(await self.link.call("open_session", *given), self._seal)

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self.link.call("close_session", worker_id, session_id)

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        with self._places(seats) as places:
            return self._leased(await self.link.call("lease", *places), seats)

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        """As `Storage.touch`; the stops are answered again until `stops_taken`."""
        refs = (*(one.lease for one in touch.accepts), *touch.extends)
        given = arguments.touch_arguments(touch, self._seal)
        with self._places(seats) as places:
            lost, (last, stops), leased = await self.link.call("touch", self._last_stop, *given, *places)
        self._newest_stop = last
        stopped, replaced = answers.told_of(stops)
        return Touched(tuple(refs[at - 1] for at in lost), stopped, self._leased(leased, seats), replaced)

    def stops_taken(self) -> None:
        """This node knows of all stops that it was told of."""
        self._last_stop = self._newest_stop

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        given = arguments.results_arguments(worker_id, results, self._settings.max_state_bytes, self._seal)
        with self._asking(want) as n, self._places(seats) as places:
            verdicts, landed, leased, claims = await self.link.call("complete", *given, n, *places)
            return Completed(
                tuple(Superseded(verdict.decode()) if verdict else None for verdict in verdicts),
                frozenset(lease.decode() for lease in landed),
                self._leased(leased, seats),
                self._claims(claims),
            )

    async def fire(self, limit: int, want: int) -> Fired:
        chance = random.randrange(2**31)  # noqa: S311  the jitter of retries
        with self._asking(want) as n:
            due, claims, spawns, losses = await self.link.call("fire", limit, chance, n)
            pairs = (text.decode().rpartition("-") for text in spawns)
            return Fired(
                int(due) if due else None,
                self._claims(claims),
                tuple((job, int(step)) for job, _, step in pairs),
                answers.losses_of(losses),
            )

    async def task(self, task_id: str) -> TaskRecord | None:
        fields = await self.link.read("task", task_id)
        return answers.task_of(task_id, fields, self._seal) if fields else None

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        found = answers.needs_of(await self.link.read("backlog", ""))
        return {key: (need, count) for key, (need, count) in found.items() if need.skill == skill}

    async def needs(self, keys: Collection[str] | None) -> Mapping[str, Need]:
        """As `Storage.needs`, where some are asked for, or all. At one that only a newer release reads it gives up."""
        try:
            found = answers.needs_of(await self.link.read("backlog", " ".join(keys or ())))
        except NewerRecord as error:
            self.link.give_up(error)
            raise
        return {key: need for key, (need, _) in found.items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        return await self._pages.page(key, after, limit)

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        given: list[Argument] = [len(moves)]
        for task, need in moves:
            given += (task, need.key, encode_need(need))
        await self.link.call("rekey", *given)

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        await self.link.call("end_queued", *arguments.ends_arguments(key, ends, self._seal))
