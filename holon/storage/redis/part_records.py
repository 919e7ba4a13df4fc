"""One partition: what is read of its jobs, and what leaves it, as calls of operations."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias

from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.ports import (
    MAX_PAGE_BYTES,
    Counts,
    Happened,
    JobFilter,
    JobRecord,
    Notice,
)
from holon.storage.redis import answers
from holon.storage.redis.part import Part
from holon.stores.records import NewerRecord

ToTell: TypeAlias = Literal["ends", "events"]

PURGE_AT_A_TIME = 50
IDS_AT_A_TIME = 1_000
# A time in an id may be so much ahead of the server's, in milliseconds, and the job may be created so much later.
CLOCKS_DIFFER = 1_000
CREATED_WITHIN = 60_000
# So often nothing of what was taken may be opened: what comes behind that is taken another time.
UNOPENED_IN_A_ROW = 20
# While so many calls wait, nothing is passed on: it is kept nowhere, and what is to be stored must find room.
MOST_BEFORE_PASSED_ON = 1_000


class RecordCalls(Part):
    """As `Storage`, of the jobs that are here."""

    # Where to look on for lines of history that are in no outbox; empty when that is done.
    _unlisted = "0"
    # How many of those that ended a purge has passed over, which stay.
    _stay = 0

    async def watch(self, job_id: str) -> None:
        await self.link.call("watch", 1, job_id, "1")

    def unwatch(self, job_id: str) -> None:
        self.link.tell("watch", 1, job_id, "")

    def pass_on(self, job_id: str, words: bytes) -> None:
        if self.link.away or self.link.waiting >= MOST_BEFORE_PASSED_ON:
            return
        # Hints are words between spaces.
        self.link.tell("say", job_id, b64encode(words))

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved, as of a second ago or so."""
        return self.link.backlog

    async def take(self, limit: int, room: int) -> tuple[Sequence[Notice], int]:
        """As `Storage.take`, about as much as there is room for (bytes); answers with how much it was too."""
        if self._settings.history_backlog is None:
            return [], 0
        for _ in range(UNOPENED_IN_A_ROW):
            found = await self.link.call("take", limit, room)
            # What is older than the moving of history comes when there is nothing else, a little at a time.
            while not found and self._unlisted:
                self._unlisted = (await self.link.call("enlist", self._unlisted)).decode()
                found = await self.link.call("take", limit, room)
            notices = answers.notices_of(found, self._seal)
            # What cannot be opened is left out for as long as what is taken, and keeps no other back.
            if notices or not found:
                return notices, sum(map(answers.size_of_notice, found))
        return [], 0

    async def settle(self, notices: Sequence[str]) -> None:
        await self.link.call("settle", len(notices), *notices)

    async def take_untold(
        self, what: ToTell, limit: int, hold: int, room: int, *, empty: bool = True
    ) -> tuple[Happened, int]:
        """As `Storage.take_events`, or `take_ends`, as much as there is room for (bytes); with how much it was.

        Arguments:
            empty: whether nothing is taken yet: then one finds room always.
        """
        while True:
            found, begin, next_due = await self.link.call("take_untold", what, limit, hold, room, "1" if empty else "")
            after = {fields[10].decode(): line for fields, line in zip(found, begin, strict=True)}
            try:
                records = await answers.records_of(found, self._seal)
            except NewerRecord as error:
                # What only a newer release reads is given back, and this node gives up.
                if what == "ends":
                    self.link.tell("settle_ends", 0, len(after), *(part for one in after for part in (one, 0)))
                else:
                    self.link.tell("settle_events", len(after), *(part for one in after for part in (one, 0, 0)))
                self.link.give_up(error)
                raise
            # One that cannot be opened is left out for as long as what is taken, and keeps no other back.
            if records or not found:
                taken = tuple((record, after[record.job.id]) for record, _ in records)
                return Happened(taken, int(next_due) if next_due else None), sum(size for _, size in records)

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]]) -> None:
        await self.link.call("settle_ends", len(told), *told, len(again), *(part for pair in again for part in pair))

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        await self.link.call("settle_events", len(heard), *(part for one in heard for part in one))

    async def job(self, job_id: str) -> JobRecord | None:
        fields = await self.link.read("job", 1, job_id)
        return answers.record_of(fields, self._seal) if fields else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[list[tuple[JobRecord, int]], int | None]:
        """As `Storage.jobs`, each job with the bytes of its state."""
        found: list[Any] = []
        start: int | str = "" if which.before is None else which.before
        room, full = MAX_PAGE_BYTES, 0
        statuses = " ".join(map(str, which.statuses))
        bounds = ["" if time is None else time for time in (which.created_after, which.created_before)]
        # One more than asked for says whether there is another page.
        while len(found) <= limit and not full:
            wanted = limit + 1 - len(found)
            empty = "" if found else "1"
            page, start, full = await self.link.read(
                "jobs", which.owner, start, wanted, room, which.blueprint or "", empty, *bounds, statuses
            )
            found += page
            room -= sum(len(fields[0]) for fields in page)
            if not start:
                break
        more = found[:limit][-1][9] if full or len(found) > limit else None
        return await answers.records_of(found[:limit], self._seal), more

    async def job_ids(self, owner: str, prefix: str, limit: int, first: int, last: int) -> list[str]:
        """As `Storage.job_ids`.

        Arguments:
            first, last: the times of ids that begin so, epoch milliseconds of this server.
        """
        key = f"o:{owner}"
        # An owner's jobs are in the order of their creation, which is never before the time of an id.
        low, high = 0, int(await self.link.ask("ZCARD", key))
        while low < high:
            middle = (low + high) // 2
            if await self._created_before(first - CLOCKS_DIFFER, await self._ids_at(key, middle, 1)):
                low = middle + 1
            else:
                high = middle
        found: list[str] = []
        while ids := await self._ids_at(key, low, IDS_AT_A_TIME):
            found += (one for one in ids if one.startswith(prefix))
            low += len(ids)
            if not await self._created_before(last + CREATED_WITHIN, ids[-1:]):
                break
        return sorted(found)[:limit]

    async def _ids_at(self, key: str, rank: int, count: int) -> list[str]:
        return [one.decode() for one in await self.link.ask("ZRANGE", key, rank, rank + count - 1)]

    async def _created_before(self, time: int, ids: Sequence[str]) -> bool:
        """Whether the job of this one id was created before a time, or is not there any more."""
        record = await self.job(ids[0]) if ids else None
        return record is None or record.created_at < time

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        lines: list[tuple[int, HistoryEvent]] = []
        start = after
        while len(lines) < limit:
            page, start = await self.link.read("history", 1, job_id, start, limit)
            for at in range(0, len(page), 2):
                some = answers.history_of(job_id, page[at], page[at + 1], self._seal)
                lines += (line for line in some if line[0] > after)
            if not start:
                break
        return lines[:limit]

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        found = await self.link.read("unread", job_id)
        return [answers.event_of(job_id, event, self._seal) for event in found]

    async def counts(self) -> Counts:
        needs = await self.link.read("backlog", "")
        totals = await self.link.ask("HGETALL", "totals")
        of = {name.decode(): int(n) for name, n in zip(totals[::2], totals[1::2], strict=True)}
        waiting: dict[str, int] = {}
        for need, count in answers.needs_of(needs).values():
            waiting[need.skill] = waiting.get(need.skill, 0) + count
        held, _ = of.pop("held", 0), of.pop("history", 0)
        some = {status: n for status, n in of.items() if n}
        if newer := some.keys() - set(Status):
            raise NewerRecord(
                f"jobs are {min(newer)}, which only a newer release knows: replace this node by one of that"
            )
        return Counts({Status(status): n for status, n in some.items()}, sum(waiting.values()), held, waiting)

    async def ended(self, beyond: int) -> int | None:
        """When the newest of those ended jobs ended that are beyond so many here, epoch ms; None: there are no more."""
        found = await self.link.ask("ZREVRANGE", "over", beyond, beyond, "WITHSCORES")
        return int(found[1]) if found else None

    async def ended_since(self, time: int) -> int:
        """How many jobs ended at this time or later."""
        return int(await self.link.ask("ZCOUNT", "over", time, "+inf"))

    async def purge(self, finished_before: int, limit: int, spared: Collection[str]) -> int:
        purged = 0
        while purged < limit:
            at_once = min(PURGE_AT_A_TIME, limit - purged)
            done, stay = await self.link.call("purge", finished_before, at_once, self._stay, len(spared), *spared)
            purged += done
            self._stay = max(stay, 0)
            if stay < 0:
                break
        return purged
